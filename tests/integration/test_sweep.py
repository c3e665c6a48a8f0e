"""`sweep` on real Ray and Tune: whole, stopped and resumed, with trainings that end early and that fail."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lapa_ray import cli
from lapa_ray.core.artefact import open_artefact
from lapa_ray.core.progress import Progress
from tests.support.small_chain import write_frames

pytestmark = [
    pytest.mark.shared_ray,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]

CONFIG = Path(__file__).parents[2] / "tune_configs" / "micro" / "sweep.yaml"


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> Path:
    return write_frames(tmp_path_factory.mktemp("swept") / "frames", num_episodes=4, max_frames=200).path


def sweep(frames: Path, out: Path, *more: str) -> int:
    fixed = [f"--config={CONFIG}", f"--frames={frames}", f"--out={out}", "--wandb.mode=disabled"]
    return cli.main(["sweep", *fixed, *more])


@pytest.fixture(scope="module")
def swept(frames, tmp_path_factory) -> Path:
    """A sweep that a Ctrl-C ended when its first training was whole, and that was resumed."""
    out, plain, done = tmp_path_factory.mktemp("sweep") / "out", Progress.advance_to, []

    def advance_to(progress, count: int, note: str = "") -> None:
        plain(progress, count, note)
        if not done and count:
            done.append(os.kill(os.getpid(), signal.SIGINT))

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Progress, "advance_to", advance_to)
        assert sweep(frames, out, "--asha.enabled=false", "--resources.max_concurrent=1") == cli.EXIT_STOPPED
    whole = {path.parent: path.stat().st_mtime_ns for path in out.glob("trials/*/manifest.json")}
    assert 1 <= len(whole) < 4
    assert not (out / "manifest.json").exists()
    assert sweep(frames, out, "--asha.enabled=false", "--resume") == 0
    for folder, changed in whole.items():
        assert (folder / "manifest.json").stat().st_mtime_ns == changed, "what was whole is kept"
    return out


def test_a_stopped_sweep_is_resumed_to_all_its_trainings(swept):
    figures = open_artefact(swept, "sweep").manifest.figures
    assert (figures["num_settings"], figures["num_trials"], figures["num_failed"]) == (2, 4, 0)
    rows = pq.read_table(swept / "trials.parquet").to_pylist()
    assert {(row["model.code_dim"], row["seed"], row["state"]) for row in rows} == {
        (size, seed, "whole") for size in ("4", "8") for seed in (0, 1)
    }
    for row in rows:
        made = open_artefact(swept / "trials" / row["trial"], "vqvae").manifest
        assert row["perplexity"] == made.figures["val_perplexity"]
    html = (swept / "sweep.html").read_text(encoding="utf-8")
    assert "has the highest mean perplexity" in html


def test_the_best_setting_trains_alone(swept, frames, tmp_path):
    options = [f"--config={swept / 'best.yaml'}", f"--frames={frames}", f"--out={tmp_path / 'vqvae'}"]
    brief = ["--training.max_updates=1", "--wandb.mode=disabled", "--resources.num_workers=0"]
    assert cli.main(["train-vqvae", *options, *brief]) == 0
    best = open_artefact(swept).manifest.figures["best"]
    assert f"code_dim_{open_artefact(tmp_path / 'vqvae').manifest.config['model']['code_dim']}" == best


def test_trainings_that_promise_little_are_ended_early_and_not_chosen(frames, tmp_path):
    out = tmp_path / "out"
    options = ["--num_seeds=1", "--space={learning_rate: [0.003, 1.0e-9, 1.1e-9, 1.2e-9]}", "--objective=psnr_db"]
    assert sweep(frames, out, *options, "--resources.max_concurrent=1") == 0
    rows = pq.read_table(out / "trials.parquet").to_pylist()
    states = {float(row["learning_rate"]): row["state"] for row in rows}
    assert states[0.003] == "whole"
    assert "ended early" in states.values()
    early = next(row for row in rows if row["state"] == "ended early")
    assert (out / "trials" / early["trial"] / "ended_early.txt").exists()
    assert open_artefact(out).manifest.figures["best"] == "learning_rate_0.003"


def test_a_training_that_fails_is_shown_and_can_be_settled_for(frames, tmp_path, capfd):
    out = tmp_path / "out"
    options = ["--num_seeds=1", "--space={learning_rate: [0.003, 1.0e+30]}", "--asha.enabled=false"]
    options.append("--resources.num_retries=0")
    assert sweep(frames, out, *options) == cli.EXIT_BAD_INPUT
    said = capfd.readouterr().err.splitlines()[-2:]
    assert "1 of the trainings failed" in said[0]
    assert "the loss is" in said[0]
    assert "Add --resume to try again, and --accept_failed to leave it at that." in said[1]
    assert sweep(frames, out, *options, "--resume", "--accept_failed") == 0
    assert open_artefact(out).manifest.figures["num_failed"] == 1
    assert '<span class="verdict below">Failed:</span>' in (out / "sweep.html").read_text(encoding="utf-8")


def test_speed_can_be_the_objective(frames, tmp_path):
    out = tmp_path / "out"
    options = ["--num_seeds=1", "--space={training.batch_size: [4, 8]}", "--objective=samples_per_s"]
    options += ["--asha.enabled=false", "--resources.max_concurrent=1", "--train.training.max_updates=4"]
    options.append("--train.resources.throughput_period_updates=2")
    assert sweep(frames, out, *options) == 0
    speeds = {
        row["training.batch_size"]: row["samples_per_s"] for row in pq.read_table(out / "trials.parquet").to_pylist()
    }
    best = open_artefact(out).manifest.figures
    assert best["best"] == f"batch_size_{max(speeds, key=speeds.get)}"
    assert best["best_samples_per_s"] == max(speeds.values())


def test_a_sweep_of_which_every_training_fails_says_why_and_what_to_try(frames, tmp_path, capfd):
    out = tmp_path / "out"
    options = ["--num_seeds=1", "--space={learning_rate: [1.0e+30]}", "--resources.num_retries=0"]
    assert sweep(frames, out, *options) == cli.EXIT_BAD_INPUT
    said = capfd.readouterr().err.splitlines()[-2:]
    assert re.search(r"every training failed, 00_learning_rate_1e-30_seed_0 because: update \d+: the loss is ", said[0])
    assert said[1].strip() == "Try one alone with train-vqvae, then add --resume."
    assert not (out / "manifest.json").exists()


def test_an_objective_that_is_no_figure_is_named(frames, tmp_path, capfd):
    options = ["--num_seeds=1", "--space={}", "--objective=perplexit", "--resources.num_retries=0"]
    assert sweep(frames, tmp_path / "out", *options) == cli.EXIT_BAD_INPUT
    assert "--objective perplexit: no validation figure; there are " in capfd.readouterr().err
