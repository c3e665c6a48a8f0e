"""Other programs read a dataset by following the page on it alone: pandas, DuckDB, Ray Data, without lapa_ray."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lapa_ray.core.pictures import to_rgb
from lapa_ray.dataset.reader import FrameDataset
from tests.support.recordings import frames_artefact

PAGE = (Path(__file__).parents[2] / "docs" / "dataset.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"With (\S+).*?```python\n(.*?)```", PAGE, flags=re.DOTALL)
WITHOUT_LAPA_RAY = """
import importlib.abc, sys, warnings

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "lapa_ray":
            raise ImportError("lapa_ray is not to be used here")

sys.meta_path.insert(0, Blocked())
"""
RAY = """
import ray
ray.init(num_cpus=1, include_dashboard=False, object_store_memory=80 * 2**20, logging_level="ERROR")
ray.data.DataContext.get_current().enable_progress_bars = False
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> FrameDataset:
    folder = tmp_path_factory.mktemp("page")
    dataset = frames_artefact(folder / "frames", [3, 5, 2, 130], height=8)
    (folder / "frames" / ".tmp-0a1b2c3d-player-000").write_bytes(b"half-written")
    return dataset


def follow(dataset: FrameDataset, program: str, tell: str) -> dict:
    """Run the page's block for a program where the dataset lies; returns what the expression `tell` is then."""
    start = WITHOUT_LAPA_RAY + (RAY if program == "Ray" else "")
    script = f"{start}{dict(BLOCKS)[program]}\nimport json\nprint(json.dumps({tell}))"
    folder = dataset.artefact.path.parent
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def scores(dataset: FrameDataset) -> dict[str, float]:
    return {str(episode_id): dataset.episode_return(episode_id) for episode_id in dataset.episode_ids}


def test_lapa_ray_is_blocked():
    done = subprocess.run(
        [sys.executable, "-c", f"{WITHOUT_LAPA_RAY}\nimport lapa_ray"], capture_output=True, text=True, check=False
    )
    assert "lapa_ray is not to be used here" in done.stderr


def test_pandas(dataset):
    told = follow(dataset, "pandas,", "{'rgb': rgb.tolist(), 'returns': returns.to_dict(), 'game': said['game']}")
    np.testing.assert_array_equal(told["rgb"], to_rgb(dataset.screens(0)[0], dataset.info.palette))
    assert told["returns"] == scores(dataset)
    assert told["game"] == "Counter"


def test_duckdb(dataset):
    told = follow(dataset, "DuckDB,", "{'scores': scores, 'screen': list(screen), 'palette': said['palette']}")
    found = {str(episode_id): (score, steps) for episode_id, score, steps in told["scores"]}
    assert {episode_id: score for episode_id, (score, _) in found.items()} == scores(dataset)
    assert [found[str(i)][1] for i in dataset.episode_ids] == [dataset.num_steps(i) for i in dataset.episode_ids]
    assert told["screen"] == dataset.screens(0)[0].ravel().tolist()
    assert bytes.fromhex(told["palette"]) == dataset.info.palette.tobytes()


def test_ray_data(dataset):
    told = follow(
        dataset, "Ray", "{'rewards': rewards, 'colours': [[int(r['frame_index']), int(r['colours'])] for r in colours]}"
    )
    assert {str(row["episode_id"]): row["sum(reward)"] for row in told["rewards"]} == scores(dataset)
    expected = [
        [index, len(np.unique(screen))]
        for episode_id in dataset.episode_ids
        for index, screen in enumerate(dataset.screens(episode_id))
    ]
    assert sorted(told["colours"]) == sorted(expected)
