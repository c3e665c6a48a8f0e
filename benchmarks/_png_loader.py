"""The peer of the picture stream: PNG files in a folder an episode, read by torch's DataLoader with two workers.

Made as well as the form allows: OpenCV decodes (1.6 times as fast as Pillow), paths are listed once, pictures stay
bytes, pages are in the system's cache, workers live on between epochs. A pair is two pictures, each of its own files.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks._frames import png_path
from lapa_ray.core.pictures import Composite, Compositor
from lapa_ray.dataset.reader import FrameDataset

NUM_WORKERS = 2


class PngPairs(Dataset[tuple[Tensor, Tensor]]):
    """Pairs of consecutive pictures, RGB uint8 [210, 160, 3]; a composite is the brightest of each channel."""

    def __init__(self, folder: Path, dataset: FrameDataset, composite: Composite) -> None:
        num_frames = Compositor.FRAMES[composite]
        self._pairs: list[tuple[list[str], list[str]]] = []
        for episode_id in dataset.episode_ids:
            ends = dataset.rows(episode_id).picture_ends.tolist()
            begins = [0, *(end + 1 for end in ends[:-1])]
            files = [
                [str(png_path(folder, episode_id, n)) for n in range(max(begin, end + 1 - num_frames), end + 1)]
                for begin, end in zip(begins, ends, strict=True)
            ]
            self._pairs += pairwise(files)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        before, after = self._pairs[index]
        return _picture(before), _picture(after)


def batches(pairs: PngPairs, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches, epoch after epoch."""
    loader = DataLoader(
        pairs, batch_size, shuffle=True, num_workers=NUM_WORKERS, persistent_workers=True, worker_init_fn=_one_thread
    )
    while True:
        yield from loader


def _picture(files: list[str]) -> Tensor:
    picture = _read(files[0])
    for file in files[1:]:
        np.maximum(picture, _read(file), out=picture)
    return torch.from_numpy(picture)


def _read(file: str) -> np.ndarray:
    picture = cv2.imread(file)
    assert picture is not None, file
    return picture


def _one_thread(_worker: int) -> None:
    cv2.setNumThreads(0)
