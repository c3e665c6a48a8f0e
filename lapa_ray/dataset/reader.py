"""The frame reader: a frames artefact in, episodes by steps and composites out. Knows neither torch nor ray.

Opening reads the small columns of every shard and checks that they tell one consistent story; screens are read a row
group at a time when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.artefact import Artefact, open_artefact
from lapa_ray.core.errors import LapaError
from lapa_ray.core.frames import GameInfo
from lapa_ray.core.pictures import Composite, Screen, compositor_for
from lapa_ray.dataset.schema import RESET_STEP
from lapa_ray.dataset.shards import EpisodeRows
from lapa_ray.dataset.shards import read_shards as read_shards
from lapa_ray.dataset.shards import shard_paths as shard_paths


@dataclass(frozen=True)
class StepTable:
    """An episode by steps, T of them; entry 0 of what has T+1 entries is the reset.

    actions, executed_actions int8 [T]; rewards float32 [T], raw score; lives int8 [T+1]; ram uint8 [T+1, 128] at the
    end of each step, None where an import has none; terminated, truncated bool [T].
    """

    actions: NDArray[np.int8]
    executed_actions: NDArray[np.int8]
    rewards: NDArray[np.float32]
    lives: NDArray[np.int8]
    ram: NDArray[np.uint8] | None
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]


class FrameDataset:
    """A set of recorded episodes."""

    def __init__(self, artefact: Artefact, info: GameInfo, episodes: dict[int, EpisodeRows]) -> None:
        self.artefact = artefact
        self.info = info
        self._episodes = episodes

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a whole frames artefact. Raises `LapaError` that names the artefact or the shard that is at fault."""
        artefact = open_artefact(path, "frames")
        shards = shard_paths(path)
        if not shards:
            raise LapaError(f"{path}: holds no shards (*.parquet); record it again.")
        info, episodes = read_shards(shards)
        return cls(artefact, info, episodes)

    @property
    def episode_ids(self) -> list[int]:
        """Ids of all episodes, ascending."""
        return sorted(self._episodes)

    @property
    def num_steps_total(self) -> int:
        """Agent steps of all episodes."""
        return sum(rows.num_steps for rows in self._episodes.values())

    def num_steps(self, episode_id: int) -> int:
        """Agent steps T of an episode."""
        return self._episodes[episode_id].num_steps

    def episode_return(self, episode_id: int) -> float:
        """Sum of the raw rewards of an episode."""
        return self._episodes[episode_id].total_reward

    def steps(self, episode_id: int) -> StepTable:
        """The episode by steps."""
        rows = self._episodes[episode_id]
        columns, last, ram = rows.columns, _last_frames(rows.columns["step"]), rows.ram()
        return StepTable(
            actions=columns["action"][last[1:]],
            executed_actions=_most_executed(columns),
            rewards=_sum_by_step(columns)[1:],
            lives=columns["lives"][last],
            ram=None if ram is None else ram[last],
            terminated=columns["terminated"][last[1:]],
            truncated=columns["truncated"][last[1:]],
        )

    def composites(self, episode_id: int, composite: Composite = "max4") -> Screen:
        """Composites uint8 [T+1, *info.screen_shape]; 0 is the reset frame, t+1 that of step t."""
        compositor = compositor_for(self.info.palette, composite)
        pictures = np.empty((self.num_steps(episode_id) + 1, *self.info.screen_shape), dtype=np.uint8)
        for picture, screens in zip(pictures, self._by_step(self._episodes[episode_id]), strict=True):
            picture[:] = compositor(screens)
        return pictures

    def screens(self, episode_id: int) -> Screen:
        """Every emulator frame, uint8 [number of frames, *info.screen_shape]."""
        return np.concatenate(list(self._by_step(self._episodes[episode_id])))

    def _by_step(self, rows: EpisodeRows) -> Iterator[Screen]:
        """Yield the screens uint8 [n, *info.screen_shape] of each step, the reset first; views wherever possible."""
        ends = iter(_last_frames(rows.columns["step"]) + 1)
        end: int | None = next(ends)
        begun: list[Screen] = []
        position = 0
        for group in rows.screens():
            screens = group.reshape(-1, *self.info.screen_shape)
            start = 0
            while end is not None and end <= position + len(screens):
                part = screens[start : end - position]
                yield np.concatenate([*begun, part]) if begun else part
                start, end, begun = end - position, next(ends, None), []
            begun.append(screens[start:])
            position += len(screens)


def _last_frames(steps: NDArray[np.int32]) -> NDArray[np.int64]:
    """Row of the last frame of each step, the reset first."""
    return np.flatnonzero(np.diff(steps, append=steps[-1] + 1))


def _sum_by_step(columns: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    starts = np.flatnonzero(np.diff(columns["step"], prepend=RESET_STEP - 1))
    return np.add.reduceat(columns["reward"], starts).astype(np.float32)


def _most_executed(columns: dict[str, NDArray[Any]]) -> NDArray[np.int8]:
    """The action executed on most frames of each step, the earliest of equals."""
    executed, last = columns["executed_action"], _last_frames(columns["step"])
    chosen = np.empty(len(last) - 1, dtype=np.int8)
    for index, (start, stop) in enumerate(zip(last[:-1] + 1, last[1:] + 1, strict=True)):
        frames = executed[start:stop].tolist()
        chosen[index] = frames[0] if len(set(frames)) == 1 else max(frames, key=frames.count)
    return chosen
