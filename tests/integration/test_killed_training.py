"""`train-vqvae` killed outright and resumed: the losses and figures are those of a training that nothing broke off."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from lapa_ray.core.metric_log import read_metrics
from lapa_ray.stages.fit_checkpoints import LAST
from tests.support.small_chain import write_frames

ROOT = Path(__file__).parents[2]
NUM_UPDATES, CHECKPOINT_PERIOD = 90, 4
OPTIONS = [
    *("--wandb.mode=disabled", "--resources.num_workers=0", "--resources.device=cpu"),
    *("--model.width=4", "--model.quantizer.kind=ema", "--model.quantizer.kmeans_init=true"),
    *("--model.quantizer.revive_below=0.2", "--model.output=palette", "--loss.kind=cross_entropy"),
    *("--loss.changed_pixel_weight=8", "--loss.common_share=0.2"),
    *("--training.batch_size=4", f"--training.max_updates={NUM_UPDATES}", "--training.num_epochs=99"),
    *("--training.validation_period_epochs=1", "--training.log_period_updates=1"),
    f"--resources.checkpoint_period_updates={CHECKPOINT_PERIOD}",
]


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> Path:
    return write_frames(tmp_path_factory.mktemp("killed") / "frames", num_episodes=4, max_frames=120).path


def started(frames: Path, out: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "lapa_ray.cli", "train-vqvae", f"--frames={frames}", f"--out={out}"]
    return subprocess.Popen([*command, *OPTIONS, *more], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def losses(out: Path) -> list[dict]:
    return [row for row in read_metrics(out / "metrics.jsonl") if "train_loss" in row or "val_loss" in row]


def is_midway(out: Path) -> bool:
    """Whether there is a checkpoint, and more was learnt since."""
    if not (out / LAST).exists() or not (out / "metrics.jsonl").exists():
        return False
    step = max((row["step"] for row in losses(out)), default=0)
    return step > 2 * CHECKPOINT_PERIOD and step % CHECKPOINT_PERIOD != 0


def test_a_training_killed_twice_is_resumed_to_the_losses_of_an_unbroken_one(frames, tmp_path):
    killed, unbroken = tmp_path / "killed", tmp_path / "unbroken"
    for resumption in ([], ["--resume"]):
        before = len(losses(killed)) if resumption else 0
        process = started(frames, killed, *resumption)
        end = time.monotonic() + 120
        while not (is_midway(killed) and len(losses(killed)) > before):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.005)
        process.kill()
        process.wait()
        assert not (killed / "manifest.json").exists()
    assert started(frames, killed, "--resume").wait() == 0
    assert started(frames, unbroken).wait() == 0
    rows = losses(unbroken)
    assert sum("train_loss" in row for row in rows) == NUM_UPDATES
    assert losses(killed) == rows
