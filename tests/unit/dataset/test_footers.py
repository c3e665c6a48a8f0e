"""Footers: a sealed one is as it was written or refused; of others each place is checked, and Arrow is not asked."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem

from lapa_ray.core.errors import LapaError
from lapa_ray.core.locations import Location
from lapa_ray.dataset.footers import END_BYTES, SEAL, SEAL_BYTES, Footer
from lapa_ray.dataset.shards import read_shards
from tests.support.recordings import record_counter
from tests.support.shard_fuzz import read_all, varint

ROOT = Path(__file__).parents[3]


@pytest.fixture
def shard(tmp_path):
    """Three row groups for two episodes, sealed."""
    record_counter(tmp_path, [140, 20])
    return tmp_path / "shard-00000.parquet"


@pytest.fixture
def rewritten(shard):
    """The same by another program, without a seal."""
    table = pq.read_table(shard)
    with pq.ParquetWriter(shard, table.schema) as writer:
        for start, stop in ((0, 512), (512, 561), (561, 642)):
            writer.write_table(table.slice(start, stop - start))
    return shard


def footer_of(shard) -> Footer:
    with pa.OSFile(str(shard)) as source:
        return Footer.read(source)


def by_arrow(shard):
    metadata = pq.read_metadata(shard)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    return [(group.num_rows, [group.column(number) for number in range(group.num_columns)]) for group in groups]


def refused(shard, match: str) -> None:
    with pytest.raises(LapaError, match=match) as error:
        read_all(shard)
    assert str(error.value).startswith(f"{shard}: corrupt shard (")


def change(shard, old: int, new: int, count: int = 1) -> None:
    """Another number of as many bytes in the footer."""
    content, start = shard.read_bytes(), footer_of(shard).start
    assert len(varint(old)) == len(varint(new))
    footer = content[start:].replace(varint(old), varint(new), count)
    assert footer != content[start:]
    shard.write_bytes(content[:start] + footer)


@pytest.mark.parametrize("is_sealed", [True, False])
def test_places_are_those_that_arrow_tells(request, is_sealed):
    shard = request.getfixturevalue("shard" if is_sealed else "rewritten")
    footer = footer_of(shard)
    assert footer.is_sealed == is_sealed
    groups = footer.groups(was_sealed=True)
    assert len(groups) == 3
    for group, (num_rows, chunks) in zip(groups, by_arrow(shard), strict=True):
        assert group.num_rows == num_rows
        for one, other in zip(group.chunks, chunks, strict=True):
            start = other.dictionary_page_offset if other.has_dictionary_page else other.data_page_offset
            assert (one.start, one.data_page_offset) == (start, other.data_page_offset)
            assert one.compressed_size == other.total_compressed_size
            assert one.uncompressed_size == other.total_uncompressed_size
            assert one.num_values == other.num_values == num_rows


def test_the_seal_stands_before_the_footer(shard):
    content = shard.read_bytes()
    start = footer_of(shard).start
    assert content[start - SEAL_BYTES : start].startswith(SEAL)
    assert content.count(SEAL) == 1


def test_a_footer_longer_than_what_is_read_at_once(rewritten, monkeypatch):
    whole = footer_of(rewritten)
    for size in (END_BYTES, len(whole.raw) - 1, len(whole.raw), len(whole.raw) + SEAL_BYTES - 1):
        monkeypatch.setattr("lapa_ray.dataset.footers.TAIL_BYTES", size)
        assert footer_of(rewritten).raw == whole.raw


def test_at_a_location(shard):
    located = Location(LocalFileSystem(), str(shard), f"test://{shard}")
    assert read_all(located) == read_all(shard)


def test_every_byte_of_seal_and_footer_matters(shard):
    content, start = shard.read_bytes(), footer_of(shard).start
    places = [*range(start - SEAL_BYTES, len(content), 7), *range(start - SEAL_BYTES, start), *range(-9, 0)]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << np.random.default_rng(place % 2**32).integers(8)
        shard.write_bytes(damaged)
        refused(shard, "corrupt shard")


def test_a_wrong_checksum(shard):
    content, start = bytearray(shard.read_bytes()), footer_of(shard).start
    content[start - 1] ^= 1
    shard.write_bytes(content)
    refused(shard, "its footer's CRC-32 differs")


def test_a_missing_checksum(shard):
    content, start = bytearray(shard.read_bytes()), footer_of(shard).start
    content[start - SEAL_BYTES] ^= 1
    shard.write_bytes(content)
    refused(shard, "its footer's CRC-32 is missing")


@pytest.mark.parametrize("place", [4, 1000, -1])
def test_a_sealed_footer_that_has_moved(shard, place):
    content, start = shard.read_bytes(), footer_of(shard).start - SEAL_BYTES
    place = start if place == -1 else place
    shard.write_bytes(content[:place] + b"0123" + content[place:])
    refused(shard, "the footer has moved")
    shard.write_bytes(content[: place - 4] + content[place:])
    refused(shard, "corrupt shard")


def test_a_seal_cut_out_is_a_file_of_another_program(shard):
    told = read_all(shard)
    content, start = shard.read_bytes(), footer_of(shard).start
    shard.write_bytes(content[: start - SEAL_BYTES] + content[start:])
    assert read_all(shard) == told


def test_a_shard_of_an_older_writer_may_have_anything_before_its_footer(rewritten):
    told = read_all(rewritten)
    content, start = rewritten.read_bytes(), footer_of(rewritten).start
    rewritten.write_bytes(content[:start] + b"page index" + content[start:])
    assert footer_of(rewritten).groups(was_sealed=False)
    refused(rewritten, "its footer's CRC-32 is missing")
    rewritten.write_bytes(content)
    assert read_all(rewritten) == told


def screens(shard, group: int):
    return by_arrow(shard)[group][1][3]


def test_a_place_twice(rewritten):
    third, second = screens(rewritten, 2).data_page_offset, screens(rewritten, 1).data_page_offset
    change(rewritten, third, second)
    refused(rewritten, "its footer leads to a place twice")


def test_a_size_that_reaches_into_the_next_chunk(rewritten):
    size = screens(rewritten, 1).total_compressed_size
    change(rewritten, size, size + 1)
    refused(rewritten, "its footer leads to a place twice")


def test_a_size_below_zero(rewritten):
    old = varint(screens(rewritten, 1).total_compressed_size)
    content = rewritten.read_bytes()
    rewritten.write_bytes(content.replace(old, bytes([old[0] ^ 1]) + old[1:]))
    refused(rewritten, "its footer leads to a place twice")


def test_a_place_beyond_the_file(rewritten):
    last = by_arrow(rewritten)[2][1][-1]
    change(rewritten, last.data_page_offset, last.data_page_offset + 1000)
    with pytest.raises(pa.ArrowInvalid, match="beyond the file"):
        footer_of(rewritten).groups(was_sealed=False)
    refused(rewritten, "corrupt shard")


def test_two_numbers_of_rows(rewritten):
    change(rewritten, 512, 513)
    refused(rewritten, "corrupt shard")


def test_no_rows(rewritten):
    pq.write_table(pq.read_table(rewritten).slice(0, 0), rewritten)
    assert sum(group.num_rows for group in footer_of(rewritten).groups(was_sealed=True)) == 0
    assert read_shards([rewritten])[1] == {}


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1PAR1", b"PAR1" + bytes(8) + b"PAR1", b"\xff" * 8 + b"PAR1"])
def test_no_footer(shard, content):
    shard.write_bytes(content)
    refused(shard, "corrupt shard")


def test_a_footer_over_which_arrow_ends_the_process(rewritten):
    """Its lists of levels do not fit: `ColumnChunkMetaData` throws what nobody catches."""
    lists = b"\x06\x19\x26\x00" + varint(49)  # none of repetitions; of definitions 0 and 49
    content = rewritten.read_bytes()
    assert lists in content
    rewritten.write_bytes(content.replace(lists, b"\x26" + lists[1:]))
    code = "import sys; from pathlib import Path; from tests.support.shard_fuzz import outcome as of; "
    command = [sys.executable, "-c", f"{code}print(of(Path(sys.argv[1]), {{}}))", str(rewritten)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr
