"""The frame reader: a frames artefact in, episodes by steps and composites out. Knows neither torch nor ray.

Opening reads the small columns of every shard and checks that they tell one consistent story; screens are read a row
group at a time when they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.artefact import Artefact, open_artefact
from lapa_ray.core.errors import LapaError
from lapa_ray.core.frames import GameInfo
from lapa_ray.core.locations import locate
from lapa_ray.core.pictures import Composite, Screen
from lapa_ray.dataset.decoding import PictureDecoder
from lapa_ray.dataset.schema import RESET_STEP
from lapa_ray.dataset.shards import EpisodeRows, read_shards, shard_paths
from lapa_ray.dataset.splits import split_parts


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
    def open(cls, where: Path | str) -> Self:
        """Open a whole frames artefact: a local path, or a URI of any filesystem that pyarrow or fsspec knows.

        Raises `LapaError` that names the artefact or the shard that is at fault.
        """
        folder = locate(where)
        artefact = open_artefact(folder, "frames")
        shards = shard_paths(folder)
        if not shards:
            raise LapaError(f"{folder}: holds no shards (*.parquet); record it again.")
        info, episodes = read_shards(shards)
        _check_recording(artefact, episodes)
        _check_counts(artefact, episodes)
        return cls(artefact, info, episodes)

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self._episodes)

    @property
    def name(self) -> str:
        """What the user calls it."""
        return str(self.artefact)

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

    def policy(self, episode_id: int) -> str:
        """Who played the episode: `random`, `agent …` or another name that its recorder gave."""
        return self._episodes[episode_id].policy

    def rows(self, episode_id: int) -> EpisodeRows:
        """Where the episode lies, and its small columns by emulator frame."""
        return self._episodes[episode_id]

    def split(self, *fractions: float) -> tuple[list[int], ...]:
        """Episode ids in parts of about `fractions`, such as 0.9, 0.1 or 0.8, 0.1, 0.1; see `splits.split_parts`."""
        return split_parts(self._episodes, fractions)

    def steps(self, episode_id: int) -> StepTable:
        """The episode by steps."""
        rows = self._episodes[episode_id]
        columns, last, ram = rows.columns, rows.picture_ends, rows.ram()
        return StepTable(
            actions=columns["action"][last[1:]],
            executed_actions=_most_executed(columns, last),
            rewards=_sum_by_step(columns)[1:],
            lives=columns["lives"][last],
            ram=None if ram is None else ram[last],
            terminated=columns["terminated"][last[1:]],
            truncated=columns["truncated"][last[1:]],
        )

    def decoder(self, composite: Composite = "max4") -> PictureDecoder:
        """Reads composites of parts of episodes."""
        return PictureDecoder(self.info, self._episodes, composite)

    def composites(self, episode_id: int, composite: Composite = "max4") -> Screen:
        """Composites uint8 [T+1, *info.screen_shape]; 0 is the reset frame, t+1 that of step t."""
        pictures = np.empty((self.num_steps(episode_id) + 1, *self.info.screen_shape), dtype=np.uint8)
        self.decoder(composite).decode(episode_id, 0, pictures)
        return pictures

    def screens(self, episode_id: int) -> Screen:
        """Every emulator frame, uint8 [number of frames, *info.screen_shape]."""
        return np.concatenate(list(self._episodes[episode_id].screens())).reshape(-1, *self.info.screen_shape)


def _check_recording(artefact: Artefact, episodes: Mapping[int, EpisodeRows]) -> None:
    """Raise `LapaError` for a shard that says it was written for another artefact: it may fit in all counts."""
    for rows in episodes.values():
        if rows.recording not in {None, artefact.identity}:
            raise LapaError(
                f"{rows.shard}: recorded for another artefact ({rows.recording}) than {artefact} "
                f"({artefact.identity}); restore its own from a copy, or record it again."
            )


def _check_counts(artefact: Artefact, episodes: Mapping[int, EpisodeRows]) -> None:
    """Raise `LapaError` unless the shards hold as much as the manifest says: one may be lost, or be another's."""
    counts = {
        "num_episodes": len(episodes),
        "num_shards": len({str(rows.shard) for rows in episodes.values()}),
        "num_steps": sum(rows.num_steps for rows in episodes.values()),
        "num_frames": sum(rows.num_frames for rows in episodes.values()),
    }
    said = artefact.manifest.figures
    for name, count in counts.items():
        if said.get(name, count) != count:
            raise LapaError(
                f"{artefact}: its shards hold {count:,} {name.removeprefix('num_')}, but its manifest says "
                f"{said[name]:,}; restore what is missing or foreign from a copy, or record it again."
            )


def _sum_by_step(columns: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    starts = np.flatnonzero(np.diff(columns["step"], prepend=RESET_STEP - 1))
    return np.add.reduceat(columns["reward"], starts).astype(np.float32)


def _most_executed(columns: dict[str, NDArray[Any]], last: NDArray[np.int64]) -> NDArray[np.int8]:
    """The action executed on most frames of each step, the earliest of equals."""
    executed = columns["executed_action"]
    chosen = np.empty(len(last) - 1, dtype=np.int8)
    for index, (start, stop) in enumerate(zip(last[:-1] + 1, last[1:] + 1, strict=True)):
        frames = executed[start:stop].tolist()
        chosen[index] = frames[0] if len(set(frames)) == 1 else max(frames, key=frames.count)
    return chosen
