"""Exports: episodes of a frame dataset in, PNG folders, videos or NumPy files out. Each is whole or not there.

What is written is what `sources` reads: pictures in RGB, and what is known of the steps beside them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.files import TEMPORARY_PREFIX, replacing
from lapa_ray.core.pictures import Composite, to_rgb
from lapa_ray.dataset import arrays, png_folders, videos
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.step_tables import SUFFIX, Steps, write_steps

Format = Literal["png", "mp4", "npz"]
PicturesOf = Literal["all", "max4", "max2", "last"]
FRAMES_A_SECOND = 60
"""Of the console. What an import was filmed with is not known."""
CHUNK = 64
"""Composites that are made at a time."""


@dataclass(frozen=True)
class Exporter:
    """Writes episodes of `dataset` below `folder`; `pictures` is `all` emulator frames or one composite a step."""

    dataset: FrameDataset
    folder: Path
    form: Format
    pictures: PicturesOf
    lossless: bool

    def check(self) -> None:
        """Raise `LapaError` for what this format cannot hold."""
        if self.form == "mp4":
            videos.check_writable(self.dataset.info.height, self.dataset.info.width, lossless=self.lossless)

    def path(self, episode_id: int) -> Path:
        """Where an episode lies, or will lie, when it is whole."""
        return self.folder / f"episode_{episode_id:06d}{'' if self.form == 'png' else '.' + self.form}"

    def write(self, episode_id: int) -> None:
        """Write an episode."""
        path, steps = self.path(episode_id), known_steps(self.dataset, episode_id)
        if self.form == "png":
            self._write_folder(path, episode_id, steps)
            return
        if self.form == "mp4" and steps:
            write_steps(path.with_suffix(SUFFIX), steps)
        with replacing(path) as temporary:
            if self.form == "mp4":
                rate = Fraction(FRAMES_A_SECOND, 1 if self.pictures == "all" else self.dataset.info.frame_skip)
                videos.write_video(temporary, self._rgb(episode_id), rate, lossless=self.lossless)
            else:
                shape = (self.num_pictures(episode_id), self.dataset.info.height, self.dataset.info.width, 3)
                arrays.write_array(temporary, self._rgb(episode_id), shape, steps)

    def num_pictures(self, episode_id: int) -> int:
        """Pictures of an episode, the reset frame too."""
        rows = self.dataset.rows(episode_id)
        return rows.num_frames if self.pictures == "all" else rows.num_steps + 1

    def _write_folder(self, path: Path, episode_id: int, steps: Steps) -> None:
        temporary = path.with_name(TEMPORARY_PREFIX + path.name)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        png_folders.write_pictures(temporary, self._rgb(episode_id))
        if steps:
            write_steps(temporary / png_folders.STEPS, steps)
        temporary.rename(path)

    def _rgb(self, episode_id: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the pictures RGB uint8 [H, W, 3]."""
        info = self.dataset.info
        if self.pictures == "all":
            for piece in self.dataset.rows(episode_id).screens():
                yield from to_rgb(piece.reshape(-1, *info.screen_shape), info.palette)
        else:
            yield from self._composites(episode_id, self.pictures)

    def _composites(self, episode_id: int, composite: Composite) -> Iterator[NDArray[np.uint8]]:
        decoder, count = self.dataset.decoder(composite), self.num_pictures(episode_id)
        for first in range(0, count, CHUNK):
            chunk = np.empty((min(CHUNK, count - first), *self.dataset.info.screen_shape), np.uint8)
            decoder.decode(episode_id, first, chunk)
            yield from to_rgb(chunk, self.dataset.info.palette)


def known_steps(dataset: FrameDataset, episode_id: int) -> Steps:
    """The columns of the step table of an episode: what is known of it, by steps."""
    steps = dataset.steps(episode_id)
    actions = {"action": steps.actions, "executed_action": steps.executed_actions}
    told = {name: column for name, column in actions.items() if not (column < 0).any()}
    columns: Steps = {**told, "reward": steps.rewards}
    return {name: column for name, column in columns.items() if name not in dataset.info.unknown}
