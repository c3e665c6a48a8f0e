"""Pages read past Arrow: the same bytes, and nothing at all of a page that is in any point another one."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapa_ray.dataset.pages import plain_page
from lapa_ray.dataset.shards import shard_paths
from tests.support.recordings import open_folder, record_counter

ROWS, WIDTH = 40, 50
SCREENS = np.random.default_rng(0).integers(0, 4, (ROWS, WIDTH), dtype=np.uint8)


def page_of(path, **how) -> bytes:
    """The bytes of a column of `SCREENS`, from a file written by Arrow."""
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(WIDTH), ROWS, [None, pa.py_buffer(SCREENS.tobytes())])
    schema = pa.schema([pa.field("screen", pa.binary(WIDTH), nullable=how.pop("nullable", False))])
    how = {"compression": "zstd", "use_dictionary": False, "write_page_checksum": True, "write_statistics": False} | how
    pq.write_table(pa.Table.from_arrays([column], schema=schema), path, **how)
    chunk = pq.read_metadata(path).row_group(0).column(0)
    start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    return path.read_bytes()[start : start + chunk.total_compressed_size]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return page_of(tmp_path_factory.mktemp("page") / "page.parquet")


def test_a_page_as_the_writer_writes_it(page):
    np.testing.assert_array_equal(plain_page(page, ROWS, WIDTH), SCREENS)


@pytest.mark.parametrize(
    "how",
    [
        {"compression": "snappy"},
        {"compression": "none"},
        {"write_page_checksum": False},
        {"use_dictionary": True},
        {"data_page_version": "2.0"},
        {"column_encoding": {"screen": "BYTE_STREAM_SPLIT"}},
        {"data_page_size": 500, "write_batch_size": 5},
        {"nullable": True},
        {"write_statistics": True},
    ],
    ids=str,
)
def test_of_other_pages_nothing_is_said(tmp_path, how):
    assert plain_page(page_of(tmp_path / "page.parquet", **how), ROWS, WIDTH) is None


def test_a_page_of_other_size(page):
    assert plain_page(page, ROWS - 1, WIDTH) is None
    assert plain_page(page, WIDTH, ROWS) is None
    assert plain_page(page[:-1], ROWS, WIDTH) is None
    assert plain_page(b"", ROWS, WIDTH) is None


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_damaged_page_is_none_or_unharmed(page, data):
    damaged = bytearray(page)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(page) - 1))] = data.draw(st.integers(0, 255))
    read = plain_page(bytes(damaged), ROWS, WIDTH)
    if read is not None:
        np.testing.assert_array_equal(read, SCREENS)


def test_shards_are_read_so_and_by_arrow_alike(tmp_path, monkeypatch):
    record_counter(tmp_path / "frames", [300, 20], height=8)
    dataset = open_folder(tmp_path / "frames")
    for episode in dataset.episode_ids:
        rows = dataset.rows(episode)
        assert all(rows._page(group) is not None for group in rows.groups)
        straight = [list(rows.screens(*part)) for part in ((), (3, 700), (513, 514))[: 1 if episode else 3]]
        with monkeypatch.context() as patch:
            patch.setattr("lapa_ray.dataset.shards.plain_page", lambda *_: None)
            by_arrow = [list(rows.screens(*part)) for part in ((), (3, 700), (513, 514))[: 1 if episode else 3]]
        for one, other in zip(straight, by_arrow, strict=True):
            np.testing.assert_array_equal(np.concatenate(one), np.concatenate(other))


def test_a_shard_of_another_writer_is_read_by_arrow(tmp_path):
    """Compressed otherwise and in several pages, but for that the same."""
    record_counter(tmp_path, [130, 20], height=8)
    before = {i: open_folder(tmp_path).screens(i) for i in (0, 1)}
    (shard,) = shard_paths(tmp_path)
    groups = [pq.ParquetFile(shard).read_row_group(number) for number in range(pq.read_metadata(shard).num_row_groups)]
    with pq.ParquetWriter(shard, groups[0].schema, compression="gzip", data_page_size=10_000) as writer:
        for group in groups:
            writer.write_table(group)
    after = open_folder(tmp_path)
    for episode in (0, 1):
        rows = after.rows(episode)
        assert all(rows._page(group) is None for group in rows.groups)
        np.testing.assert_array_equal(after.screens(episode), before[episode])
        np.testing.assert_array_equal(
            np.concatenate(list(rows.screens(30, 60))).reshape(-1, 8, 160), before[episode][30:60]
        )
