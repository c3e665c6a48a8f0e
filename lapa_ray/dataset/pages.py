"""Pages of screens straight from a shard's bytes, where they are as `FrameWriter` writes them.

Arrow copies every value of a page once more, which takes longer than to decompress it. Here a page is decompressed and
viewed. It must have a checksum that holds and be in every point the one form that is known; of any other page nothing
is said, and Arrow reads it, or says what is wrong with it.
"""

from __future__ import annotations

import zlib

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

MAX_HEADER = 256
"""Bytes that are looked at for a page's header; those that are known take some 30."""
I32, STRUCT = 5, 12
"""Types of Thrift's compact protocol, in which Parquet's page headers are written."""
DATA_PAGE, PLAIN = 0, 0
TYPE, UNCOMPRESSED_SIZE, COMPRESSED_SIZE, CRC, DATA_PAGE_HEADER = 1, 2, 3, 4, 5
NUM_VALUES, ENCODING = 1, 2
"""Numbers of the fields of PageHeader and of DataPageHeader that matter (apache/parquet-format, parquet.thrift)."""


def plain_page(raw: bytes, num_values: int, width: int) -> NDArray[np.uint8] | None:
    """The values uint8 [num_values, width] of the one Zstandard page `raw`; None if it is not exactly that."""
    try:
        header, size = _read_struct(raw[:MAX_HEADER], 0)
    except (IndexError, ValueError):
        return None
    page = memoryview(raw)[size:]
    values = header.get(DATA_PAGE_HEADER)
    expected = {TYPE: DATA_PAGE, UNCOMPRESSED_SIZE: num_values * width, COMPRESSED_SIZE: len(page)}
    is_known = (
        isinstance(values, dict)
        and all(header.get(field) == value for field, value in expected.items())
        and (values.get(NUM_VALUES), values.get(ENCODING)) == (num_values, PLAIN)
        and CRC in header
        and header[CRC] == _signed(zlib.crc32(page))
    )
    if not is_known:
        return None
    try:
        pixels = pa.Codec("zstd").decompress(page, num_values * width)
    except (pa.ArrowException, OSError):
        return None
    return np.frombuffer(pixels, dtype=np.uint8).reshape(num_values, width)


def has_checksum(raw: bytes) -> bool | None:
    """Whether the page that begins `raw` has a checksum; None if its header is none of the known forms."""
    try:
        return CRC in _read_struct(raw[:MAX_HEADER], 0)[0]
    except (IndexError, ValueError):
        return None


Field = dict[int, "int | Field"]


def _read_struct(raw: bytes, position: int) -> tuple[Field, int]:
    """Fields by number, and where the struct ends. Raises `ValueError` for types that known headers have not."""
    fields: Field = {}
    number = 0
    while (head := raw[position]) != 0:
        position += 1
        step, kind = head >> 4, head & 15
        if step == 0:
            raise ValueError("a field number of its own")
        number += step
        if kind == I32:
            fields[number], position = _read_i32(raw, position)
        elif kind == STRUCT:
            fields[number], position = _read_struct(raw, position)
        else:
            raise ValueError("an unknown type")
    return fields, position + 1


def _read_i32(raw: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[position]
        position += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return (value >> 1) ^ -(value & 1), position


def _signed(crc: int) -> int:
    """Parquet keeps the 32 bits of the checksum as a signed number."""
    return crc - 2**32 if crc >= 2**31 else crc
