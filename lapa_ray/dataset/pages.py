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

from lapa_ray.dataset.thrift import I32, STRUCT, read_struct

KNOWN_HEADER = 256
"""Bytes that are looked at for the header of a page of the known form, which takes some 30."""
MAX_HEADER = 2**15
"""Bytes that are looked at for a header of any form: Arrow puts values of up to 4 kB in it, four of them."""
DATA_PAGE, PLAIN = 0, 0
TYPE, UNCOMPRESSED_SIZE, COMPRESSED_SIZE, CRC = (1, I32), (2, I32), (3, I32), (4, I32)
DATA_PAGE_HEADER = 5, STRUCT
NUM_VALUES, ENCODING, DEFINITION_LEVELS, REPETITION_LEVELS = (1, I32), (2, I32), (3, I32), (4, I32)
STATISTICS = 5, STRUCT
"""The fields of PageHeader and of DataPageHeader in the known form (apache/parquet-format, parquet.thrift)."""


def plain_page(raw: bytes, num_values: int, width: int) -> NDArray[np.uint8] | None:
    """The values uint8 [num_values, width] of the one Zstandard page `raw`; None if it is not exactly that."""
    try:
        header, size = read_struct(raw[:KNOWN_HEADER])
    except ValueError:
        return None
    page = memoryview(raw)[size:]
    values = header.pop(DATA_PAGE_HEADER, {})
    is_known = (
        header
        == {
            TYPE: DATA_PAGE,
            UNCOMPRESSED_SIZE: num_values * width,
            COMPRESSED_SIZE: len(page),
            CRC: _signed(zlib.crc32(page)),
        }
        and values.keys() - {STATISTICS} == {NUM_VALUES, ENCODING, DEFINITION_LEVELS, REPETITION_LEVELS}
        and (values[NUM_VALUES], values[ENCODING], values.get(STATISTICS, {})) == (num_values, PLAIN, {})
    )
    if not is_known:
        return None
    try:
        pixels = pa.Codec("zstd").decompress(page, num_values * width)
    except (pa.ArrowException, OSError):
        return None
    return np.frombuffer(pixels, dtype=np.uint8).reshape(num_values, width)


def has_checksum(raw: bytes) -> bool | None:
    """Whether the page that begins `raw` has a checksum; None if its header cannot be read."""
    try:
        return CRC in read_struct(raw)[0]
    except ValueError:
        return None


def _signed(crc: int) -> int:
    """Parquet keeps the 32 bits of the checksum as a signed number."""
    return crc - 2**32 if crc >= 2**31 else crc
