"""Pictures to import, in all the forms that can be imported, and the command that imports them."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lapa_ray import cli
from lapa_ray.dataset import videos
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.envs.palette import ntsc_palette

Pictures = NDArray[np.uint8]


def ale_pictures(count: int, seed: int = 0, height: int = 6, width: int = 4) -> Pictures:
    """RGB uint8 [count, height, width, 3] in colours of the ALE."""
    indices = 2 * np.random.default_rng(seed).integers(0, 128, (count, height, width))
    return ntsc_palette()[indices]


def rgb_pictures(count: int, seed: int = 0, height: int = 6, width: int = 4) -> Pictures:
    """RGB in any colours, hardly all of the ALE's."""
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def grey_pictures(count: int, seed: int = 0, height: int = 6, width: int = 4) -> Pictures:
    """Grey uint8 [count, height, width]."""
    return np.random.default_rng(seed).integers(0, 256, (count, height, width), dtype=np.uint8)


def write_pngs(folder: Path, pictures: Pictures) -> None:
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures):
        assert cv2.imwrite(str(folder / f"{number}.png"), picture if picture.ndim == 2 else picture[..., ::-1])


def write_film(path: Path, pictures: Pictures, *, lossless: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    videos.write_video(path, pictures, Fraction(60), lossless=lossless)


def write_source(kind: str, path: Path, pictures: Pictures) -> None:
    """One episode in the form `kind`: png, npy, npz or mp4; `path` has no suffix."""
    if kind == "png":
        write_pngs(path, pictures)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "npy":
        np.save(path, pictures)
    elif kind == "npz":
        np.savez(path, frames=pictures)
    else:
        write_film(path.with_suffix(".mp4"), pictures)


def import_frames(source: Path, out: Path, *options: str) -> FrameDataset:
    assert cli.main(["import-frames", f"--source={source}", f"--out={out}", *options]) == 0
    return FrameDataset.open(out)


def shown(dataset: FrameDataset) -> Mapping[int, Pictures]:
    """Episode id → every frame, RGB."""
    found = {}
    for episode_id in dataset.episode_ids:
        screens = dataset.screens(episode_id)
        found[episode_id] = dataset.info.palette[screens] if dataset.info.channels == 1 else screens
    return found
