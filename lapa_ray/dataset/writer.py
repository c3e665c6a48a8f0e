"""The frame writer: steps of one environment in, Parquet shards of whole episodes out. Knows no environment.

Memory is one row group. A shard appears under its name only when it is whole; what a kill leaves is a `.tmp-` file.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lapa_ray.core.files import TEMPORARY_PREFIX, flush_to_disk
from lapa_ray.core.frames import RAM_BYTES, GameInfo, StepFrames
from lapa_ray.core.manifest import RUN, read_run
from lapa_ray.dataset.footers import seal
from lapa_ray.dataset.schema import INDEX_COLUMNS, RESET_STEP, frame_schema, row_group_rows

ROWS_PER_SHARD = 20_000
DATA_PAGE_BYTES = 32 * 2**20
"""More than the 17 MB of a row group: one page each is read fastest, without a copy."""
DICTIONARY_COLUMNS = [name for name in INDEX_COLUMNS if name != "frame_index"]


class FrameWriter:
    """Writes the episodes of one environment, one after another, into shards `NAME-00000.parquet`, … of `folder`."""

    def __init__(
        self,
        folder: Path,
        info: GameInfo,
        name: str,
        policy: str,
        compression_level: int = 3,
        rows_per_shard: int = ROWS_PER_SHARD,
        scratch: Path | None = None,
    ) -> None:
        """Write below `folder`; names taken there are passed over. `compression_level` is Zstandard's, 1 to 22.

        What is half-written lies in `scratch`, on the same filesystem; in `folder` itself if not given.
        Of the columns that `info.unknown` names, those that may be null are written as null, whatever is appended.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._name, self._scratch = folder, name, scratch or folder
        self._schema = frame_schema(info, policy, _recording(folder))
        self._level, self._rows_per_shard = compression_level, rows_per_shard
        self._rows = _RowGroup(info)
        self._shard: _Shard | None = None
        self._episode_id: int | None = None
        self._step = RESET_STEP
        self._frame_index = 0
        self._ended = False

    def begin_episode(self, episode_id: int) -> None:
        """Begin an episode; the next append is its reset frame. Raises `ValueError` if another one is open."""
        if self._episode_id is not None:
            raise ValueError(f"episode {self._episode_id} has not ended")
        self._episode_id, self._step, self._frame_index, self._ended = episode_id, RESET_STEP, 0, False

    def append(self, action: int, frames: StepFrames, terminated: bool, truncated: bool) -> None:
        """Add the frames of one step (of the reset: `NO_ACTION`); the flags hold for its last frame."""
        if self._episode_id is None or self._ended or len(frames.rewards) == 0:
            raise ValueError("append outside an episode, or no frames")
        done, count = 0, len(frames.rewards)
        while done < count:
            if self._rows.is_full:  # only now: the last row of an episode stays at hand, for `end_episode` to mark
                self._flush()
            done += self._rows.add(self._episode_id, self._step, self._frame_index + done, action, frames, done)
        self._rows.mark_last(terminated=terminated, truncated=truncated)
        self._frame_index += count
        self._step += 1
        self._ended = terminated or truncated

    def end_episode(self) -> None:
        """End the episode; one that neither terminated nor was truncated is marked truncated at its last frame."""
        if self._episode_id is None:
            return
        if self._frame_index:
            if not self._ended:
                self._rows.mark_last(terminated=False, truncated=True)
            self._flush()
        self._episode_id = None
        if self._shard is not None and self._shard.num_rows >= self._rows_per_shard:
            self._close_shard()

    def close(self) -> None:
        """End the open episode and put the open shard in place. Safe to call again."""
        self.end_episode()
        self._close_shard()

    def abort(self) -> None:
        """Throw the open shard away; shards already in place stay."""
        self._episode_id = None
        self._rows.clear()
        if self._shard is not None:
            self._shard.discard()
            self._shard = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def _flush(self) -> None:
        if self._shard is None:
            # No two processes have one name for what is half-written, and none can put another's in place. It does not
            # end in .parquet, so that no reader takes it for a shard.
            temporary = self._scratch / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:8]}-{self._name}"
            self._shard = _Shard(temporary, self._schema, self._level, self._rows.size)
        self._shard.write(self._rows.to_batch(self._schema))
        self._rows.clear()

    def _close_shard(self) -> None:
        if self._shard is not None:
            self._shard.commit(self._free_path())
            self._shard = None

    def _free_path(self) -> Path:
        number = 0
        while (path := self._folder / f"{self._name}-{number:05d}.parquet").exists():
            number += 1
        return path


def _recording(folder: Path) -> str | None:
    """The identity of the artefact that `folder` is: a shard that strays into another one is told by it."""
    return read_run(folder).identity if (folder / RUN).exists() else None


class _RowGroup:
    """Up to 512 rows, fewer of large screens, filled in place, handed to Arrow without another copy."""

    def __init__(self, info: GameInfo) -> None:
        self.size = row_group_rows(info)
        self._unknown = info.unknown
        self._count = 0
        self._columns: dict[str, np.ndarray[Any, Any]] = {
            "episode_id": np.empty(self.size, np.int64),
            "step": np.empty(self.size, np.int32),
            "frame_index": np.empty(self.size, np.int32),
            "screen": np.empty((self.size, info.screen_bytes), np.uint8),
            "ram": np.empty((self.size, RAM_BYTES), np.uint8),
            "action": np.empty(self.size, np.int8),
            "executed_action": np.empty(self.size, np.int8),
            "reward": np.empty(self.size, np.float32),
            "lives": np.empty(self.size, np.int8),
            "terminated": np.empty(self.size, np.bool_),
            "truncated": np.empty(self.size, np.bool_),
        }

    @property
    def is_full(self) -> bool:
        return self._count == self.size

    def add(self, episode_id: int, step: int, frame_index: int, action: int, frames: StepFrames, first: int) -> int:
        """Add the frames from `first` on, as many as there is room for; returns how many."""
        count = min(self.size - self._count, len(frames.rewards) - first)
        part = slice(first, first + count)
        values = {
            "episode_id": episode_id,
            "step": step,
            "frame_index": np.arange(frame_index, frame_index + count),
            "screen": frames.screens[part].reshape(count, -1),
            "ram": frames.ram[part],
            "action": action,
            "executed_action": frames.executed_actions[part],
            "reward": frames.rewards[part],
            "lives": frames.lives[part],
            "terminated": False,
            "truncated": False,
        }
        for name, value in values.items():
            self._columns[name][self._count : self._count + count] = value
        self._count += count
        return count

    def mark_last(self, *, terminated: bool, truncated: bool) -> None:
        self._columns["terminated"][self._count - 1] = terminated
        self._columns["truncated"][self._count - 1] = truncated

    def clear(self) -> None:
        self._count = 0

    def to_batch(self, schema: pa.Schema) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([self._arrow(field) for field in schema], schema=schema)

    def _arrow(self, field: pa.Field) -> pa.Array:
        if field.nullable and field.name in self._unknown:
            return pa.nulls(self._count, field.type)
        return _arrow(self._columns[field.name][: self._count], field.type)


class _Shard:
    """One Parquet file under a temporary name until it is whole."""

    def __init__(self, temporary: Path, schema: pa.Schema, level: int, row_group_rows: int) -> None:
        self._temporary, self._row_group_rows = temporary, row_group_rows
        self._writer = pq.ParquetWriter(
            self._temporary,
            schema,
            compression="zstd",
            compression_level=level,
            use_dictionary=DICTIONARY_COLUMNS,
            write_statistics=["episode_id", "step", "frame_index"],
            data_page_size=DATA_PAGE_BYTES,
            write_page_checksum=True,
        )
        self.num_rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        with _told(self._temporary):
            self._writer.write_batch(batch, row_group_size=self._row_group_rows)
        self.num_rows += batch.num_rows

    def commit(self, path: Path) -> None:
        with _told(self._temporary):
            self._writer.close()
            seal(self._temporary)
        flush_to_disk(self._temporary)
        self._temporary.replace(path)

    def discard(self) -> None:
        with suppress(OSError, pa.ArrowException):  # a full disk refuses the last bytes of what is thrown away too
            self._writer.close()
        self._temporary.unlink(missing_ok=True)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What Arrow says of the disk becomes the system's own words, with the file that Arrow leaves out."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def _arrow(column: np.ndarray[Any, Any], kind: pa.DataType) -> pa.Array:
    if column.ndim == 2:
        return pa.FixedSizeBinaryArray.from_buffers(kind, len(column), [None, pa.py_buffer(column)])
    return pa.array(column, type=kind)
