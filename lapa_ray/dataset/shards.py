"""Shards of frames: Parquet files in, checked episodes out, with their small columns and where their screens lie.

Knows no artefact and no step. Every page is read with its checksum, so a flipped bit is an error that names the file.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lapa_ray.core.errors import LapaError
from lapa_ray.core.files import TEMPORARY_PREFIX
from lapa_ray.core.frames import NO_ACTION, GameInfo
from lapa_ray.dataset.schema import INDEX_COLUMNS, RESET_STEP, read_metadata

_ALIKE = ("game", "action_meanings", "height", "width", "channels", "frame_skip", "sticky_probability", "unknown")
"""What the shards of one dataset have in common, beside the palette."""


@dataclass(frozen=True)
class EpisodeRows:
    """An episode in a shard: the row groups that hold it, and its small columns (each [number of frames])."""

    shard: Path
    row_groups: tuple[int, ...]
    columns: dict[str, NDArray[Any]]

    @property
    def num_frames(self) -> int:
        """Emulator frames, the reset frame too."""
        return len(self.columns["step"])

    @property
    def num_steps(self) -> int:
        """Agent steps."""
        return int(self.columns["step"][-1]) + 1

    @property
    def total_reward(self) -> float:
        """Sum of the raw rewards."""
        return float(self.columns["reward"].sum(dtype=np.float64))

    def ram(self) -> NDArray[np.uint8] | None:
        """RAM uint8 [number of frames, 128]; None where an import has none."""
        with _opened(self.shard) as file:
            table = _read(file, ["ram"], self.row_groups)
        return None if table.column("ram").null_count else _fixed_bytes(table, "ram")

    def screens(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the screens uint8 [n, height × width × channels] of each row group in turn, n ≤ 512, without a copy."""
        with _opened(self.shard) as file:
            for group in self.row_groups:
                yield _fixed_bytes(_read(file, ["screen"], [group]), "screen")


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a folder, by name; half-written ones are passed over."""
    return sorted(path for path in folder.glob("*.parquet") if not path.name.startswith(TEMPORARY_PREFIX))


def read_shards(shards: list[Path]) -> tuple[GameInfo, dict[int, EpisodeRows]]:
    """The game and the episodes of `shards`, one or more.

    Raises `LapaError` naming the shard that is damaged, foreign, of another game or tells of an episode again.
    """
    infos = []
    episodes: dict[int, EpisodeRows] = {}
    for shard in shards:
        info, found = _read_shard(shard)
        infos.append(info)
        if _differ(infos[0], info):
            raise LapaError(f"{shard}: recorded with another game or settings than {shards[0].name}; keep them apart.")
        for episode_id in found.keys() & episodes.keys():
            raise LapaError(f"{shard}: episode {episode_id} is in {episodes[episode_id].shard.name} too; remove one.")
        episodes |= found
    return infos[0], episodes


def _read_shard(shard: Path) -> tuple[GameInfo, dict[int, EpisodeRows]]:
    with _opened(shard) as file:
        info, _ = read_metadata(file.schema_arrow, str(shard))
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
        table = _read(file, INDEX_COLUMNS, range(len(sizes)))
    columns = {name: _numpy(table, name) for name in INDEX_COLUMNS}
    episodes = {}
    for rows in _runs(shard, columns, np.cumsum([0, *sizes])):
        _check_episode(rows, len(info.action_meanings))
        if (episode_id := int(rows.columns["episode_id"][0])) in episodes:
            raise LapaError(f"{shard}: the rows of episode {episode_id} lie apart; record it again.")
        episodes[episode_id] = rows
    return info, episodes


def _runs(shard: Path, columns: dict[str, NDArray[Any]], group_starts: NDArray[np.int64]) -> Iterator[EpisodeRows]:
    """Yield the runs of rows of one episode; each must fill row groups of its own."""
    ids = columns["episode_id"]
    bounds = np.unique([0, *(np.flatnonzero(np.diff(ids)) + 1), len(ids)])
    groups = np.searchsorted(group_starts, bounds)
    if not np.array_equal(group_starts[groups], bounds):
        raise LapaError(f"{shard}: a row group holds rows of several episodes; write it with lapa_ray's FrameWriter.")
    for (start, stop), (first, end) in zip(itertools.pairwise(bounds), itertools.pairwise(groups), strict=True):
        rows = {name: column[start:stop] for name, column in columns.items()}
        yield EpisodeRows(shard, tuple(range(int(first), int(end))), rows)


def _check_episode(rows: EpisodeRows, num_actions: int) -> None:
    """An episode is frames 0, 1, 2, … of steps −1, 0, 1, … in order, ended at its last frame alone."""
    columns = rows.columns
    steps, ends = columns["step"], columns["terminated"] | columns["truncated"]
    whole = (
        np.array_equal(columns["frame_index"], np.arange(len(steps)))
        and steps[0] == RESET_STEP
        and np.isin(np.diff(steps), (0, 1)).all()
        and ends[-1]
        and not ends[:-1].any()
    )
    name = f"{rows.shard}: episode {columns['episode_id'][0]}"
    if not whole:
        raise LapaError(f"{name} is not whole, or its rows are out of order; record it again.")
    for actions in (columns["action"], columns["executed_action"]):
        if actions.min() < NO_ACTION or actions.max() >= num_actions:
            raise LapaError(f"{name} holds an action that is none of the {num_actions} of the game; record it again.")


def _differ(one: GameInfo, other: GameInfo) -> bool:
    return not np.array_equal(one.palette, other.palette) or any(
        getattr(one, name) != getattr(other, name) for name in _ALIKE
    )


@contextmanager
def _opened(shard: Path) -> Iterator[pq.ParquetFile]:
    """The open file; what Arrow says of it while it is read becomes a `LapaError` that names it."""
    try:
        with pq.ParquetFile(shard, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LapaError(
            f"{shard}: corrupt shard ({reason}); restore it from a copy, or remove it and record again."
        ) from error


def _read(file: pq.ParquetFile, columns: list[str], row_groups: Sequence[int]) -> pa.Table:
    table = file.read_row_groups(row_groups, columns=columns, use_threads=False)
    # Page headers have no checksum: one that is damaged can make Arrow pass over its page without a word.
    expected = sum(file.metadata.row_group(group).num_rows for group in row_groups)
    if {len(column) for column in table.columns} != {expected}:
        raise pa.ArrowInvalid(f"{table.num_rows} rows, where its footer says {expected}")
    return table


def _numpy(table: pa.Table, name: str) -> NDArray[Any]:
    column = table.column(name)
    return (column.fill_null(NO_ACTION) if column.null_count else column).to_numpy()


def _fixed_bytes(table: pa.Table, name: str) -> NDArray[np.uint8]:
    """A fixed-size-binary column as uint8 [rows, size], without a copy where it is one chunk."""
    column = table.column(name)
    size = column.type.byte_width
    chunks = [
        np.frombuffer(chunk.buffers()[1], dtype=np.uint8, count=len(chunk) * size, offset=chunk.offset * size)
        for chunk in column.chunks
    ]
    return (chunks[0] if len(chunks) == 1 else np.concatenate(chunks)).reshape(-1, size)
