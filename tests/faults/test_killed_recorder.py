"""A recorder that dies at any byte leaves whole episodes only; the rest is recorded again, none lost, none twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lapa_ray import cli
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.shards import shard_paths

pytestmark = pytest.mark.shared_ray

ROOT = Path(__file__).parents[2]
EXIT_TIME_S = 120


def test_killed_at_any_byte_and_call(tmp_path):
    command = [sys.executable, "-m", "tests.support.killed_writer", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) > 100
    for case in told:
        assert "error" not in case, case
        assert case["left_right"], case
        assert case["resumed_right"], case
        assert case["signal"] in {signal.SIGXFSZ, signal.SIGKILL, 0}, case
    assert sum(case["signal"] != 0 for case in told) > 100, "hardly any was killed"
    assert {len(case["left"]) for case in told} == set(range(7)), "some must have died early, some late"


def record(out: Path, *options: str) -> list[str]:
    return [
        *("record", "--agent=random", f"--out={out}", "--num_episodes=6", "--env.max_frames=600", "--seed=3"),
        # A shard an episode of these, so that some are in place while others are still played.
        *("--planner_episodes=3", "--planner_max_steps=60", "--planner.budget_steps=2"),
        *("--resources.num_workers=2", "--ray.num_cpus=2", "--ray.object_store_mb=80", *options),
    ]


def rows(folder: Path) -> dict[tuple[int, int], tuple[object, ...]]:
    """(episode, frame) → all columns; a row that is there twice is an error."""
    found: dict[tuple[int, int], tuple[object, ...]] = {}
    for shard in shard_paths(folder):
        for row in pq.read_table(shard).to_pylist():
            key = (row["episode_id"], row["frame_index"])
            assert key not in found, "recorded twice"
            found[key] = tuple(row.values())
    return found


def begun(out: Path) -> bool:
    return (out / "run.json").exists()


def writing(out: Path) -> bool:
    return any(path.stat().st_size > 10_000 for path in out.rglob(".tmp-*"))


def placed(out: Path) -> bool:
    return bool(shard_paths(out))


def two_placed(out: Path) -> bool:
    return len(shard_paths(out)) == 2


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "frames"
    assert cli.main(record(out)) == 0
    return out


@pytest.mark.parametrize("moment", [writing, placed, two_placed])
def test_a_killed_record_command_is_resumed_at_once(moment, tmp_path, undisturbed, capfd):
    """Only the command is killed, as by `kill -9`: players that outlive it for a while put nothing in its place."""
    out = tmp_path / "frames"
    process = subprocess.Popen(
        [sys.executable, "-m", "lapa_ray.cli", *record(out)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + EXIT_TIME_S
    while not moment(out) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    assert begun(out)
    assert not (out / "manifest.json").exists(), "the kill came too late to test anything"
    for shard in shard_paths(out):
        assert pq.read_table(shard).num_rows
    assert cli.main(record(out, "--resume")) == 0, capfd.readouterr().err
    assert FrameDataset.open(out).episode_ids == list(range(6))
    assert rows(out) == rows(undisturbed)
    assert not list(out.rglob(".tmp-*"))
