"""Verification reads all, goes on after a fault, and tells each once."""

import pyarrow.parquet as pq
import pytest

from lapa_ray.core.errors import LapaError
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.shards import shard_paths
from lapa_ray.dataset.verification import verify
from tests.support.recordings import frames_artefact


@pytest.fixture
def dataset(tmp_path):
    return frames_artefact(tmp_path / "frames", [200, 100, 130, 5], height=40)


def damage(shard, row_group: int, column: str) -> None:
    """Flip a bit in the middle of a column's page."""
    with pq.ParquetFile(shard) as file:
        chunk = file.metadata.row_group(row_group).column(file.schema_arrow.names.index(column))
        middle = chunk.data_page_offset + chunk.total_compressed_size // 2
    content = bytearray(shard.read_bytes())
    content[middle] ^= 16
    shard.write_bytes(content)


def test_a_sound_dataset(dataset):
    told = []
    report = verify(dataset, told.append)
    assert report.is_sound
    assert report.num_unchecked == 0
    assert (report.num_episodes, report.num_steps, report.num_frames) == (4, 435, 4 * 435 + 4)
    assert report.num_shards == len(shard_paths(dataset.artefact.path)) == 2
    assert told == [801, 401, 521, 21]


@pytest.mark.parametrize("column", ["screen", "ram"])
def test_damage_in_any_row_group_is_found_and_the_rest_is_read(dataset, column):
    first, second = shard_paths(dataset.artefact.path)
    damage(first, 1, column)
    damage(second, 0, column)
    told = []
    report = verify(FrameDataset.open(dataset.artefact.path), told.append)
    assert not report.is_sound
    assert [fault.partition(": corrupt shard (")[0] for fault in report.faults] == [str(first), str(second)]
    assert sum(told) == report.num_frames


def test_a_lost_shard_shows_in_the_counts_already_when_it_is_opened(dataset):
    _, second = shard_paths(dataset.artefact.path)
    second.unlink()
    with pytest.raises(LapaError) as error:
        FrameDataset.open(dataset.artefact.path)
    assert str(error.value) == (
        f"{dataset.name}: its shards hold 2 episodes, but its manifest says 4; "
        "restore what is missing or foreign from a copy, or record it again."
    )


def test_screens_without_checksums_are_told(tmp_path):
    dataset = frames_artefact(tmp_path / "frames", [9], height=40)
    shard = shard_paths(dataset.artefact.path)[0]
    pq.write_table(pq.read_table(shard), shard, row_group_size=1, write_page_checksum=False)
    again = FrameDataset.open(dataset.artefact.path)
    assert verify(again).num_unchecked == pq.read_metadata(shard).num_rows
    assert verify(again).is_sound
