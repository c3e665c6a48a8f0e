"""The page on the dataset does what it says: its code runs, its tables name what is there."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lapa_ray.dataset.shards import shard_paths
from tests.support.recordings import frames_artefact

PAGE = (Path(__file__).parents[3] / "docs" / "dataset.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return frames_artefact(tmp_path / "frames", [3, 5, 2], height=8)


def test_the_code_for_lapa_ray_runs(dataset):
    """The blocks between need packages of their own: tests/integration/test_dataset_page.py."""
    whole, streamed, grey = BLOCKS[3:]
    names: dict = {}
    exec(whole, names)
    assert names["frame_t"].shape == (3, 8, 160)
    exec(streamed, names)
    assert names["frame_t"].shape == names["frame_t1"].shape == (len(names["batch"]), 8, 160)
    assert names["state"]["batch"] == len(names["stream"]) == 3
    exec(grey, names)
    assert names["grey"].shape == (names["pictures"].shape[0] * names["pictures"].shape[1], 1, 8, 160)
    assert 0 <= names["grey"].min() <= names["grey"].max() <= 1


def test_the_tables_name_every_column_and_key(dataset):
    schema = pq.read_schema(shard_paths(dataset.artefact.path)[0])
    rows = "".join(re.findall(r"^\| (`.*?) \|", PAGE, flags=re.MULTILINE))
    named = set(re.findall(r"`(\w+)`", rows))
    assert named == set(schema.names) | set(json.loads(schema.metadata[b"lapa_ray"]))
