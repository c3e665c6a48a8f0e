"""Whole runs of train-dqn, real game and real Ray: their driver is killed, or what they learn from is no number."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from lapa_ray.actors.checkpoints import Checkpoints
from lapa_ray.actors.supervisor import Supervisor
from lapa_ray.core.artefact import open_artefact
from lapa_ray.core.errors import DivergedError
from lapa_ray.core.metric_log import read_metrics
from lapa_ray.dataset.shards import read_shards, shard_paths
from lapa_ray.models.checkpoint import load_checkpoint
from lapa_ray.replay.snapshot import load_state
from lapa_ray.stages import dqn_training, train_dqn
from tests.support.killed_training import NUM_STEPS, train_config
from tests.support.probe import PoisonedAtariEnv
from tests.support.states import assert_same

pytestmark = pytest.mark.shared_ray

ROOT = Path(__file__).parents[2]


def train_until_killed(out: Path, step: int, *options: str) -> None:
    environment = os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.support.killed_training", str(out), str(step), *options]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == -9, ended.stderr


def checkpoints_of(out: Path) -> Checkpoints:
    return Checkpoints(out / "checkpoints", use_per=True, with_replay=True, config={})


def test_a_run_whose_driver_is_killed_again_and_again_goes_on_where_its_checkpoints_were(tmp_path, monkeypatch):
    generator, out, resumed = random.Random(0), tmp_path / "agent", []
    train_until_killed(out, generator.randint(400, 500))
    first = checkpoints_of(out).newest()
    train_until_killed(out, generator.randint(850, 950), "--resume")
    second = checkpoints_of(out).newest()
    assert 60 <= first.num_updates < second.num_updates
    run = Supervisor.run

    def compare_and_run(supervisor: Supervisor, *arguments: Any) -> None:
        """What was loaded is what the files hold: weights, optimiser, random generators, buffer, limiter, log."""
        resumed.append(supervisor.counters.num_updates)
        path = checkpoints_of(out).newest_path()
        saved, crew, now = load_checkpoint(path), supervisor._crew, supervisor.get_state()
        assert_same(saved["learner"], crew.learner.ask("get_state"))
        server = crew.server.ask("get_state")
        assert_same(load_state(path.parent, path.name.removesuffix("_PER.pth")), server)
        assert_same(saved["limiter"], server["limiter"])
        assert saved["run"]["log"].pop("seconds") <= now["log"].pop("seconds")
        assert_same(saved["run"], now)
        run(supervisor, *arguments)

    monkeypatch.setattr(Supervisor, "run", compare_and_run)
    train_dqn.run(train_config(out, resume=True))
    assert resumed == [second.num_updates]
    figures = open_artefact(out, "agent").manifest.figures
    assert figures["num_updates"] == train_config(out).num_updates == 450
    assert NUM_STEPS <= figures["num_steps"] < NUM_STEPS + 2
    check_curves(read_metrics(out / "metrics.jsonl"))
    seen: set[int] = set()
    for shard in shard_paths(out / "gameplay"):
        episodes = set(read_shards([shard])[1])
        assert not seen & episodes, "an episode twice"
        seen |= episodes


def check_curves(rows: list[dict[str, Any]]) -> None:
    """They join: no row twice, nothing goes back."""
    for name in ("step", "num_updates", "num_episodes"):
        values = [row[name] for row in rows]
        assert values == sorted(values), name
    places = [(row["step"], row["num_updates"]) for row in rows]
    assert len(set(places)) == len(places)
    assert places[-1] >= (NUM_STEPS, 450)


def test_a_loss_that_is_no_number_ends_the_run_with_the_last_good_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(dqn_training, "AtariEnv", partial(PoisonedAtariEnv, at=250))
    with pytest.raises(DivergedError) as error:
        train_dqn.run(train_config(tmp_path / "agent", no_save=True))
    told = re.fullmatch(
        r"update (\d+): the loss is nan; try a lower --learner\.learning_rate\.\nThe last good checkpoint is (.+)\.",
        str(error.value),
    )
    checkpoint = load_checkpoint(Path(told[2]))
    assert 60 <= checkpoint["learner"]["num_updates"] <= int(told[1])
    for part in ("network", "target"):
        assert all(torch.isfinite(value).all() for value in checkpoint["learner"][part].values())
    assert not (tmp_path / "agent" / "manifest.json").exists()
