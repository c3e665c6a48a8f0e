"""Shards of frames: Parquet files in, checked episodes out, with their small columns and where their screens lie.

Knows no artefact and no step. Every page is read with its checksum, so a flipped bit is an error that names the file.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lapa_ray.core.errors import LapaError
from lapa_ray.core.files import TEMPORARY_PREFIX
from lapa_ray.core.frames import NO_ACTION, GameInfo
from lapa_ray.core.locations import Location
from lapa_ray.dataset.footers import Chunk, Footer
from lapa_ray.dataset.pages import MAX_HEADER, has_checksum, plain_page
from lapa_ray.dataset.schema import INDEX_COLUMNS, RESET_STEP, read_metadata

_ALIKE = ("game", "action_meanings", "height", "width", "channels", "frame_skip", "sticky_probability", "unknown")
"""What the shards of one dataset have in common, beside the palette."""


OPENING_THREADS = 4
PIECE_BYTES = 2**20
"""Screens are handed on in pieces of about this size, which stay in a core's cache."""
LEAST_PAGE_HEADER = 17
"""Bytes that Parquet's header of a page takes at least (Thrift's compact protocol)."""


@dataclass(frozen=True)
class RowGroup:
    """A row group of a shard: its number there, its rows, and where its screens lie in the file, in bytes."""

    number: int
    num_rows: int
    offset: int
    size: int
    uncompressed_size: int


@dataclass(frozen=True)
class EpisodeRows:
    """An episode in a shard: its row groups, and its small columns (each [number of frames])."""

    shard: Path | Location
    groups: tuple[RowGroup, ...]
    columns: dict[str, NDArray[Any]]
    policy: str
    recording: str | None
    screen_bytes: int

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
        with _opened(self.shard) as (file, _):
            table = _read(file, ["ram"], self.groups)
        return None if table.column("ram").null_count else _fixed_bytes(table, "ram")

    @cached_property
    def picture_ends(self) -> NDArray[np.int64]:
        """Row of the last frame of each step, int64 [T+1], the reset first."""
        steps = self.columns["step"]
        return np.flatnonzero(np.diff(steps, append=steps[-1] + 1))

    @property
    def group_starts(self) -> NDArray[np.int64]:
        """The first picture whose frames lie in each row group or later, ascending."""
        first_rows = np.concatenate([[0], self.picture_ends[:-1] + 1])
        return np.unique(np.searchsorted(first_rows, np.cumsum([0, *(group.num_rows for group in self.groups[:-1])])))

    def screens(self, first: int = 0, stop: int | None = None) -> Iterator[NDArray[np.uint8]]:
        """Yield the screens of rows `first` to `stop` (all), uint8 [n, height × width × channels], some at a time.

        What was yielded is right once the iterator has come to its end: only then is damage known for certain.
        """
        stop = self.num_frames if stop is None else stop
        begin = 0
        for group in self.groups:
            if first < begin + group.num_rows and begin < stop:
                part = slice(max(first - begin, 0), min(stop - begin, group.num_rows))
                if (whole := self._page(group)) is not None:
                    yield whole[part]
                else:
                    yield from self._pieces(group, part)
            begin += group.num_rows

    def groups_without_checksum(self) -> int:
        """Row groups whose screens have no checksum, so that damage in them may go unseen: another program's."""
        heads = (self._raw(group, min(group.size, MAX_HEADER)) for group in self.groups)
        return sum(head is not None and has_checksum(head) is False for head in heads)

    def _page(self, group: RowGroup) -> NDArray[np.uint8] | None:
        """The screens of a row group from its one page, as `FrameWriter` writes it; None if it is anything else."""
        raw = self._raw(group, group.size)
        return None if raw is None else plain_page(raw, group.num_rows, self.screen_bytes)

    def _raw(self, group: RowGroup, size: int) -> bytes | None:
        """The first `size` bytes of the screens of a row group; None where they cannot be read."""
        try:
            with self.shard.open() if isinstance(self.shard, Location) else pa.OSFile(str(self.shard)) as file:
                return cast("bytes", file.read_at(size, group.offset))
        except (OSError, pa.ArrowException):
            return None

    def _pieces(self, group: RowGroup, part: slice) -> Iterator[NDArray[np.uint8]]:
        """The screens of part of a row group as Arrow reads them."""
        with _opened(self.shard) as (file, _):
            yield from _screens(file, group, part.start, part.stop)


AnyPath = TypeVar("AnyPath", bound=Path | Location)


def shard_paths(folder: AnyPath) -> list[AnyPath]:
    """The shards of a folder, by name; half-written ones are passed over."""
    found = [path for path in folder.glob("*.parquet") if not path.name.startswith(TEMPORARY_PREFIX)]
    return cast("list[AnyPath]", sorted(found, key=lambda path: path.name))


def read_shards(shards: Sequence[Path | Location]) -> tuple[GameInfo, dict[int, EpisodeRows]]:
    """The game and the episodes of `shards`, one or more.

    Raises `LapaError` naming the shard that is damaged, foreign, of another game or tells of an episode again.
    """
    infos = []
    episodes: dict[int, EpisodeRows] = {}
    with ThreadPoolExecutor(OPENING_THREADS) as executor:
        read = list(executor.map(_read_shard, shards))
    for shard, (info, found) in zip(shards, read, strict=True):
        infos.append(info)
        if _differ(infos[0], info):
            raise LapaError(f"{shard}: recorded with another game or settings than {shards[0].name}; keep them apart.")
        for episode_id in found.keys() & episodes.keys():
            raise LapaError(f"{shard}: episode {episode_id} is in {episodes[episode_id].shard.name} too; remove one.")
        episodes |= found
    return infos[0], episodes


def _read_shard(shard: Path | Location) -> tuple[GameInfo, dict[int, EpisodeRows]]:
    with _opened(shard) as (file, footer):
        said = read_metadata(file.schema_arrow, str(shard))
        column = file.schema_arrow.names.index("screen")
        groups = [
            _row_group(number, group.chunks[column])
            for number, group in enumerate(footer.groups(was_sealed=said.has_footer_checksum))
        ]
        table = _read(file, INDEX_COLUMNS, groups)
    columns = {name: _numpy(table, name) for name in INDEX_COLUMNS}
    episodes = {}
    for part, its_groups in _runs(shard, columns["episode_id"], groups):
        small = {name: column[part] for name, column in columns.items()}
        rows = EpisodeRows(shard, its_groups, small, said.policy, said.recording, said.game.screen_bytes)
        _check_episode(rows, said.game)
        if (episode_id := int(rows.columns["episode_id"][0])) in episodes:
            raise LapaError(f"{shard}: the rows of episode {episode_id} lie apart; record it again.")
        episodes[episode_id] = rows
    return said.game, episodes


def _row_group(number: int, screens: Chunk) -> RowGroup:
    size = screens.compressed_size
    return RowGroup(number, screens.num_values, screens.data_page_offset, size, screens.uncompressed_size)


def _runs(
    shard: Path | Location, ids: NDArray[np.int64], groups: Sequence[RowGroup]
) -> Iterator[tuple[slice, tuple[RowGroup, ...]]]:
    """Yield rows and row groups of the runs of one episode; each must fill row groups of its own."""
    group_starts = np.cumsum([0, *(group.num_rows for group in groups)])
    bounds = np.unique([0, *(np.flatnonzero(np.diff(ids)) + 1), len(ids)])
    firsts = np.searchsorted(group_starts, bounds)
    if not np.array_equal(group_starts[firsts], bounds):
        raise LapaError(f"{shard}: a row group holds rows of several episodes; write it with lapa_ray's FrameWriter.")
    for (start, stop), (first, end) in zip(itertools.pairwise(bounds), itertools.pairwise(firsts), strict=True):
        yield slice(start, stop), tuple(groups[first:end])


def _check_episode(rows: EpisodeRows, info: GameInfo) -> None:
    """An episode is frames 0, 1, 2, … of steps −1, 0, 1, … in order, ended at its last frame alone."""
    columns = rows.columns
    steps, ends = columns["step"], columns["terminated"] | columns["truncated"]
    whole = (
        np.array_equal(columns["frame_index"], np.arange(len(steps)))
        and _are_steps(steps, info.frame_skip)
        and ends[-1]
        and not ends[:-1].any()
    )
    name = f"{rows.shard}: episode {columns['episode_id'][0]}"
    if not whole:
        raise LapaError(f"{name} is not whole, or its rows are out of order; record it again.")
    num_actions = len(info.action_meanings)
    for actions in (columns["action"], columns["executed_action"]):
        if actions.min() < NO_ACTION or actions.max() >= num_actions:
            raise LapaError(f"{name} holds an action that is none of the {num_actions} of the game; record it again.")
    if ((np.diff(columns["action"]) != 0) & (np.diff(steps) == 0)).any():
        raise LapaError(f"{name} holds a step of several actions; record it again.")


def _are_steps(steps: NDArray[np.int32], frame_skip: int) -> bool:
    """Whether the reset is one row, and each step `frame_skip` rows, the last step as many at most."""
    num_rows = len(steps) - 1
    expected = np.arange(num_rows) // frame_skip
    return bool(steps[0] == RESET_STEP and np.array_equal(steps[1:], expected))


def _differ(one: GameInfo, other: GameInfo) -> bool:
    return not np.array_equal(one.palette, other.palette) or any(
        getattr(one, name) != getattr(other, name) for name in _ALIKE
    )


@contextmanager
def _opened(shard: Path | Location) -> Iterator[tuple[pq.ParquetFile, Footer]]:
    """The open file and its footer; what Arrow says of it while it is read becomes a `LapaError` that names it."""
    is_remote = isinstance(shard, Location)
    try:
        with shard.open() if isinstance(shard, Location) else pa.OSFile(str(shard)) as source:
            footer = Footer.read(source)
            # Remote reads are put together: there each costs a round trip.
            how = {"page_checksum_verification": True, "pre_buffer": is_remote}
            with pq.ParquetFile(source, metadata=footer.metadata, **how) as file:
                yield file, footer
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LapaError(
            f"{shard}: corrupt shard ({reason}); restore it from a copy, or remove it and record again."
        ) from error


def _read(file: pq.ParquetFile, columns: list[str], groups: Sequence[RowGroup]) -> pa.Table:
    table = file.read_row_groups([group.number for group in groups], columns=columns, use_threads=False)
    # Page headers have no checksum: one that is damaged can make Arrow pass over its page without a word.
    expected = sum(group.num_rows for group in groups)
    if {len(column) for column in table.columns} != {expected}:
        raise pa.ArrowInvalid(f"{table.num_rows} rows, where its footer says {expected}")
    return table


def _numpy(table: pa.Table, name: str) -> NDArray[Any]:
    column = table.column(name)
    return (column.fill_null(NO_ACTION) if column.null_count else column).to_numpy()


def _screens(file: pq.ParquetFile, group: RowGroup, first: int, stop: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the screens of rows `first` to `stop` of a row group."""
    width, position = file.schema_arrow.field("screen").type.byte_width, 0
    # One page alone is either right or missing; of several one may be passed over, which the count of rows tells.
    excess = group.uncompressed_size - group.num_rows * width
    may_leave_early = 0 <= excess < 2 * LEAST_PAGE_HEADER
    pieces = file.iter_batches(
        max(PIECE_BYTES // width, 1), row_groups=[group.number], columns=["screen"], use_threads=False
    )
    for piece in pieces:
        begin, position = position, position + len(piece)
        if first < position and begin < stop:
            yield _bytes_of(piece.column(0))[max(first - begin, 0) : stop - begin]
        if position >= stop and may_leave_early:
            return
    if position != group.num_rows:
        raise pa.ArrowInvalid(f"{position} rows, where its footer says {group.num_rows}")


def _fixed_bytes(table: pa.Table, name: str) -> NDArray[np.uint8]:
    """A fixed-size-binary column as uint8 [rows, size], without a copy where it is one chunk."""
    chunks = [_bytes_of(chunk) for chunk in table.column(name).chunks]
    return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)


def _bytes_of(array: pa.Array) -> NDArray[np.uint8]:
    """A fixed-size-binary array as uint8 [rows, size], without a copy."""
    size = array.type.byte_width
    flat = np.frombuffer(array.buffers()[1], dtype=np.uint8, count=len(array) * size, offset=array.offset * size)
    return flat.reshape(-1, size)
