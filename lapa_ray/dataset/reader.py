"""The frame reader: a frames artefact in, episodes, steps and composites out. Knows neither torch nor Ray.

Opening reads the small columns of every shard and checks that they tell one consistent story; screens are read by row
group when they are asked for, their checksums verified.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lapa_ray.core.artefact import Artefact, open_artefact
from lapa_ray.core.errors import LapaError
from lapa_ray.core.files import TEMPORARY_PREFIX
from lapa_ray.core.frames import NO_ACTION, GameInfo
from lapa_ray.core.pictures import Composite, Compositor, Screen
from lapa_ray.dataset.schema import RESET_STEP, read_metadata

INDEX_COLUMNS = ["episode_id", "step", "frame_index", "action", "executed_action", "reward", "lives", "terminated",
                 "truncated"]  # fmt: skip


@dataclass(frozen=True)
class StepTable:
    """An episode by steps, T of them; entry 0 of what has T+1 entries is the reset.

    actions, executed_actions int8 [T]; rewards float32 [T], raw score; lives int8 [T+1]; ram uint8 [T+1, 128] at the
    end of each step; terminated, truncated bool [T].
    """

    actions: NDArray[np.int8]
    executed_actions: NDArray[np.int8]
    rewards: NDArray[np.float32]
    lives: NDArray[np.int8]
    ram: NDArray[np.uint8]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]


@dataclass(frozen=True)
class EpisodeRows:
    """Where an episode lies, and its small columns (each [number of frames])."""

    shard: Path
    row_groups: tuple[int, ...]
    columns: dict[str, NDArray[Any]]

    @property
    def num_steps(self) -> int:
        """Agent steps."""
        return int(self.columns["step"][-1]) + 1


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
        return float(self._episodes[episode_id].columns["reward"].sum())

    def steps(self, episode_id: int) -> StepTable:
        """The episode by steps."""
        rows = self._episodes[episode_id]
        columns, last = rows.columns, _last_frames(rows.columns["step"])
        return StepTable(
            actions=columns["action"][last[1:]],
            executed_actions=_most_executed(columns),
            rewards=_sum_by_step(columns)[1:],
            lives=columns["lives"][last],
            ram=_read_bytes(rows, "ram", 128)[last],
            terminated=columns["terminated"][last[1:]],
            truncated=columns["truncated"][last[1:]],
        )

    def composites(self, episode_id: int, composite: Composite = "max4") -> Screen:
        """Composites uint8 [T+1, height, width], palette indices; 0 is the reset frame, t+1 that of step t."""
        rows = self._episodes[episode_id]
        compositor = Compositor(self.info.palette, composite)
        ranks = np.zeros((rows.num_steps + 1, self.info.height, self.info.width), dtype=np.uint8)
        steps = rows.columns["step"]
        counts_down = _last_frames(steps)[steps - RESET_STEP] - np.arange(len(steps))
        position = 0
        for screens in self._screens(rows):
            for screen in screens:
                if counts_down[position] < compositor.num_frames:
                    slot = ranks[steps[position] - RESET_STEP]
                    cv2.max(slot, cv2.LUT(screen, compositor.ranks), dst=slot)
                position += 1
        return cv2.LUT(ranks.reshape(-1, self.info.width), compositor.by_rank).reshape(ranks.shape)

    def screens(self, episode_id: int) -> Screen:
        """Every emulator frame, uint8 [number of frames, height, width], palette indices."""
        return np.concatenate(list(self._screens(self._episodes[episode_id])))

    def _screens(self, rows: EpisodeRows) -> Iterator[Screen]:
        size = self.info.height * self.info.width
        for group in rows.row_groups:
            yield _fixed_bytes(_read(rows.shard, ["screen"], [group]), "screen", size).reshape(
                -1, self.info.height, self.info.width
            )


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a folder, by name; half-written ones are passed over."""
    return sorted(path for path in folder.glob("*.parquet") if not path.name.startswith(TEMPORARY_PREFIX))


def read_shards(shards: list[Path]) -> tuple[GameInfo, dict[int, EpisodeRows]]:
    """The game and the episodes of `shards`. Raises `LapaError` naming the shard that is damaged or does not fit."""
    first: GameInfo | None = None
    episodes: dict[int, EpisodeRows] = {}
    for shard in shards:
        info, found = _read_shard(shard)
        first = first or info
        if _differ(first, info):
            raise LapaError(f"{shard}: recorded with another game or settings than {shards[0].name}; keep them apart.")
        for episode_id, rows in found.items():
            if episode_id in episodes:
                raise LapaError(
                    f"{shard}: episode {episode_id} is in {episodes[episode_id].shard.name} too; remove one."
                )
            episodes[episode_id] = rows
    assert first is not None
    return first, episodes


def _read_shard(shard: Path) -> tuple[GameInfo, dict[int, EpisodeRows]]:
    try:
        with pq.ParquetFile(shard) as file:
            schema, num_groups = file.schema_arrow, file.metadata.num_row_groups
            sizes = [file.metadata.row_group(group).num_rows for group in range(num_groups)]
    except (pa.ArrowException, OSError) as error:
        raise _corrupt(shard, error) from error
    info, _ = read_metadata(schema, str(shard))
    table = _read(shard, INDEX_COLUMNS, list(range(num_groups)))
    columns = {name: _numpy(table, name) for name in INDEX_COLUMNS}
    episodes = {}
    group_of_row = np.repeat(np.arange(num_groups), sizes)
    ids, firsts = np.unique(columns["episode_id"], return_index=True)
    bounds = [*sorted(firsts), len(columns["episode_id"])]
    for start, stop in itertools.pairwise(bounds):
        rows = {name: column[start:stop] for name, column in columns.items()}
        groups = tuple(int(group) for group in np.unique(group_of_row[start:stop]))
        _check_episode(shard, rows)
        episodes[int(rows["episode_id"][0])] = EpisodeRows(shard, groups, rows)
    if len(ids) != len(episodes):
        raise LapaError(f"{shard}: rows of several episodes are mixed; record it again.")
    return info, episodes


def _check_episode(shard: Path, rows: dict[str, NDArray[Any]]) -> None:
    """An episode is one run of frames 0, 1, 2, …, its steps −1, 0, 1, … in order, ended at its last frame alone."""
    steps, ends = rows["step"], rows["terminated"] | rows["truncated"]
    whole = (
        len(np.unique(rows["episode_id"])) == 1
        and np.array_equal(rows["frame_index"], np.arange(len(steps)))
        and steps[0] == RESET_STEP
        and bool(np.all(np.isin(np.diff(steps), (0, 1))))
        and bool(ends[-1])
        and not ends[:-1].any()
    )
    if not whole:
        raise LapaError(f"{shard}: episode {rows['episode_id'][0]} is not whole or its rows are out of order.")


def _differ(one: GameInfo, other: GameInfo) -> bool:
    return not np.array_equal(one.palette, other.palette) or any(
        getattr(one, name) != getattr(other, name)
        for name in ("game", "action_meanings", "height", "width", "frame_skip", "sticky_probability")
    )


def _read(shard: Path, columns: list[str], row_groups: list[int]) -> pa.Table:
    try:
        with pq.ParquetFile(shard, page_checksum_verification=True) as file:
            return file.read_row_groups(row_groups, columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise _corrupt(shard, error) from error


def _corrupt(shard: Path, error: Exception) -> LapaError:
    reason = str(error).splitlines()[0] if str(error) else repr(error)
    return LapaError(f"{shard}: corrupt shard ({reason}); restore it from a copy, or remove it and record again.")


def _numpy(table: pa.Table, name: str) -> NDArray[Any]:
    column = table.column(name)
    if column.null_count:
        column = column.fill_null(NO_ACTION)
    return column.to_numpy()


def _fixed_bytes(table: pa.Table, name: str, size: int) -> NDArray[np.uint8]:
    """A fixed-size-binary column as uint8 [rows, size], without a copy where it is one chunk."""
    chunks = [
        np.frombuffer(chunk.buffers()[1], dtype=np.uint8).reshape(-1, size)[chunk.offset : chunk.offset + len(chunk)]
        for chunk in table.column(name).chunks
    ]
    return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)


def _read_bytes(rows: EpisodeRows, name: str, size: int) -> NDArray[np.uint8]:
    return _fixed_bytes(_read(rows.shard, [name], list(rows.row_groups)), name, size)


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
