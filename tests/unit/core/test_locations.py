"""A frame dataset at any URI reads like one in a folder; what cannot be reached is told by its URI."""

from pathlib import Path

import fsspec
import numpy as np
import pytest

from lapa_ray.core.artefact import open_artefact
from lapa_ray.core.errors import LapaError
from lapa_ray.core.locations import Location, locate
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.verification import verify
from tests.support.recordings import frames_artefact

URI = "memory://bucket/set/frames"


@pytest.fixture
def dataset(tmp_path):
    return frames_artefact(tmp_path / "frames", [30, 20], height=4)


@pytest.fixture
def memory(dataset):
    """The dataset in fsspec's memory, with what readers pass over."""
    filesystem = fsspec.filesystem("memory")
    filesystem.put(str(dataset.artefact.path), "/bucket/set/frames", recursive=True)
    filesystem.pipe("/bucket/set/frames/.tmp-shard-00009.parquet", b"half-written")
    yield filesystem
    filesystem.rm("/bucket", recursive=True)


def test_a_remote_dataset_reads_like_a_local_one(dataset, memory):
    remote = FrameDataset.open(URI)
    assert (remote.name, remote.artefact.identity) == (URI, dataset.artefact.identity)
    assert remote.episode_ids == dataset.episode_ids
    for episode in dataset.episode_ids:
        np.testing.assert_array_equal(remote.composites(episode), dataset.composites(episode))
        np.testing.assert_array_equal(remote.steps(episode).ram, dataset.steps(episode).ram)
    assert verify(remote).is_sound


def test_a_damaged_remote_shard_is_named_by_its_uri(memory):
    shard = "/bucket/set/frames/shard-00000.parquet"
    memory.pipe(shard, memory.cat(shard)[:-30])
    with pytest.raises(LapaError, match=rf"^{URI}/shard-00000.parquet: corrupt shard"):
        FrameDataset.open(URI)


def test_what_is_not_there_is_told(memory):
    with pytest.raises(LapaError, match=r"^memory://bucket/other: no such directory; a frame dataset"):
        open_artefact(locate("memory://bucket/other"), "frames")
    memory.rm("/bucket/set/frames/manifest.json")
    with pytest.raises(LapaError, match=rf"^{URI}: this frames run has not finished"):
        FrameDataset.open(URI)
    memory.rm("/bucket/set/frames/run.json")
    with pytest.raises(LapaError, match=rf"^{URI}: holds no artefact"):
        FrameDataset.open(URI)


@pytest.mark.parametrize("uri", ["nosuch://bucket/frames", "s3://[bad/frames"])
def test_a_uri_that_no_filesystem_takes(uri):
    with pytest.raises(LapaError) as told:
        FrameDataset.open(uri)
    assert str(told.value).startswith(f"{uri}: cannot be read (")
    assert "\n" not in str(told.value)


def test_local_uris_are_paths(tmp_path):
    assert locate(f"file://{tmp_path}") == locate(str(tmp_path)) == locate(tmp_path) == tmp_path
    assert locate("runs/frames") == Path("runs/frames")


def test_a_location_answers_like_a_path(memory):
    folder = locate(URI)
    assert isinstance(folder, Location)
    assert (folder.name, str(folder.parent), str(folder / "x")) == ("frames", "memory://bucket/set", f"{URI}/x")
    assert folder.is_dir()
    assert not (folder / "manifest.json").is_dir()
    assert [found.name for found in folder.glob("run.*")] == ["run.json"]
    assert (folder / "run.json").read_text().startswith("{")
