"""Footers of shards: whether one is as it was written, and where by it the chunks of columns lie.

Parquet has no checksum of the footer, in which a damaged place can lead to another chunk, whole, with checksums that
hold, but of other rows. So `FrameWriter` seals its shards: right before the footer, where no reader of Parquet looks,
stand `LRC1` and the footer's CRC-32. The footer of a file without that is read here, not by Arrow, which ends the
process over some that are damaged, and each of its places is checked.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from io import SEEK_END
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from lapa_ray.dataset.thrift import BINARY, I64, LIST, STRUCT, Fields, read_struct

MAGIC = b"PAR1"
"""What a Parquet file begins and ends with."""
SEAL = b"LRC1"
SEAL_BYTES, END_BYTES = 8, 8
"""The seal with its checksum, before the footer; its length and `PAR1`, behind it."""
TAIL_BYTES = 2**16
"""Read at once from the end of a file: most footers lie in it, and from afar each read costs a round trip."""
SCHEMA, ROW_GROUPS = (2, LIST), (4, LIST)
COLUMNS, NUM_ROWS = (1, LIST), (3, I64)
FILE_PATH, META_DATA = (1, BINARY), (3, STRUCT)
NUM_VALUES, UNCOMPRESSED_SIZE, COMPRESSED_SIZE = (5, I64), (6, I64), (7, I64)
DATA_PAGE_OFFSET, DICTIONARY_PAGE_OFFSET = (9, I64), (11, I64)
"""Fields of FileMetaData, RowGroup, ColumnChunk and ColumnMetaData (apache/parquet-format, parquet.thrift)."""


class Chunk(NamedTuple):
    """A column of a row group: where it and the first of its data pages lie in the file, and its sizes, in bytes."""

    start: int
    data_page_offset: int
    compressed_size: int
    uncompressed_size: int
    num_values: int


class Group(NamedTuple):
    """A row group: its rows, and its columns in their order."""

    num_rows: int
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True)
class Footer:
    """The footer of a file, which begins at `start`, with what stands behind it; a sealed one is as it was written."""

    start: int
    raw: bytes
    is_sealed: bool
    metadata: pq.FileMetaData
    """What Arrow makes of these very bytes."""

    @classmethod
    def read(cls, source: pa.NativeFile) -> Footer:
        """The footer of an open file. Raises `ArrowInvalid` where there is none, or its seal is broken."""
        size = source.size()
        tail = source.read_at(min(TAIL_BYTES, size), max(size - TAIL_BYTES, 0))
        start = size - END_BYTES - int.from_bytes(tail[-END_BYTES:-4], "little")
        if not tail.endswith(MAGIC) or start < len(MAGIC):
            raise pa.ArrowInvalid("it does not end with a footer of Parquet")
        first = max(start - SEAL_BYTES, 0)
        if first < size - len(tail):
            tail = source.read_at(size - first, first)
        before, raw = tail[first - size : start - size], tail[start - size :]
        is_sealed = before.startswith(SEAL)
        if is_sealed and before != _seal_of(raw):
            raise pa.ArrowInvalid("its footer's CRC-32 differs")
        return cls(start, raw, is_sealed, pq.read_metadata(pa.BufferReader(raw)))

    def groups(self, *, was_sealed: bool) -> list[Group]:
        """The row groups. Raises `ArrowInvalid` where the footer cannot be that of this file.

        `was_sealed` is what the schema says. A program that writes the rows anew keeps the schema, but makes no seal,
        nor room for one: by that such a file is told from one with a damaged seal. Chunks without values lie anywhere.
        """
        groups = _by_arrow(self.metadata) if self.is_sealed else _by_thrift(self.raw)
        filled = [group for group in groups if group.num_rows or any(chunk.num_values for chunk in group.chunks)]
        room = self.start - _end(filled)
        if room < 0:
            raise pa.ArrowInvalid("its footer leads beyond the file")
        if filled and (self.is_sealed or was_sealed) and room != SEAL_BYTES * self.is_sealed:
            raise pa.ArrowInvalid("its footer's CRC-32 is missing, or the footer has moved")
        return groups


def seal(path: Path) -> None:
    """Put the seal before the footer of a whole Parquet file."""
    with path.open("r+b") as file:
        file.seek(-END_BYTES, SEEK_END)
        start = file.tell() - int.from_bytes(file.read(4), "little")
        file.seek(start)
        raw = file.read()
        file.seek(start)
        file.write(_seal_of(raw) + raw)


def _seal_of(raw: bytes) -> bytes:
    """The seal of a footer, which length and `PAR1` follow."""
    return SEAL + zlib.crc32(raw[:-END_BYTES]).to_bytes(4, "little")


def _by_arrow(metadata: pq.FileMetaData) -> list[Group]:
    """The row groups by a sealed footer: safe, since it is as Arrow wrote it, and much faster."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    return [
        Group(group.num_rows, tuple(map(_arrow_chunk, map(group.column, range(group.num_columns))))) for group in groups
    ]


def _arrow_chunk(chunk: pq.ColumnChunkMetaData) -> Chunk:
    start, offset = _start(chunk.data_page_offset, chunk.dictionary_page_offset), chunk.data_page_offset
    return Chunk(start, offset, chunk.total_compressed_size, chunk.total_uncompressed_size, chunk.num_values)


def _by_thrift(raw: bytes) -> list[Group]:
    """The row groups by any footer. Raises `ArrowInvalid` where it is malformed."""
    try:
        fields, end = read_struct(raw)
        groups = [Group(group[NUM_ROWS], tuple(map(_chunk, group[COLUMNS]))) for group in fields[ROW_GROUPS]]
        if end != len(raw) - END_BYTES or {len(group.chunks) for group in groups} - {len(fields[SCHEMA]) - 1}:
            raise ValueError("it has another length, or number of columns")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise pa.ArrowInvalid(f"its footer is malformed: {error}") from error
    return groups


def _chunk(column: Fields) -> Chunk:
    if FILE_PATH in column:
        raise ValueError("a column lies in another file")
    said: dict[Any, int] = column[META_DATA]
    offset = said[DATA_PAGE_OFFSET]
    start = _start(offset, said.get(DICTIONARY_PAGE_OFFSET))
    return Chunk(start, offset, said[COMPRESSED_SIZE], said[UNCOMPRESSED_SIZE], said[NUM_VALUES])


def _start(data_page_offset: int, dictionary_page_offset: int | None) -> int:
    """Where a chunk begins, as Arrow has it: some writers say 0 for a dictionary that is not there."""
    return min(data_page_offset, dictionary_page_offset or data_page_offset)


def _end(groups: list[Group]) -> int:
    """Where the last chunk ends. Raises `ArrowInvalid` unless they lie one behind the other, with a value a row."""
    end = len(MAGIC)
    for group in groups:
        for chunk in group.chunks:
            if chunk.start < end or min(chunk.compressed_size, chunk.uncompressed_size) <= 0:
                raise pa.ArrowInvalid("its footer leads to a place twice")
            end = chunk.start + chunk.compressed_size
            if chunk.data_page_offset >= end or chunk.num_values != group.num_rows:
                raise pa.ArrowInvalid("its footer contradicts itself")
    return end
