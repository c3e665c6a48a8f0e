"""`sweep` on real Ray and Tune: whole, stopped, killed and resumed; trainings that end early, fail and are retried."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from lapa_ray import cli
from lapa_ray.core.artefact import open_artefact
from lapa_ray.core.metric_log import read_metrics
from lapa_ray.core.progress import Progress
from lapa_ray.stages import sweep_trials
from lapa_ray.stages.fit_checkpoints import LAST
from lapa_ray.stages.sweep_config import SweepConfig
from lapa_ray.stages.sweep_plan import plan
from lapa_ray.stages.trials import run_trial
from tests.support.faulty_sweeps import ATTEMPTS, Failing, Meeting, num_attempts
from tests.support.sessions import left_of, processes_of
from tests.support.small_chain import write_frames

pytestmark = [
    pytest.mark.shared_ray,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tune_configs" / "micro" / "sweep.yaml"


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> Path:
    return write_frames(tmp_path_factory.mktemp("swept") / "frames", num_episodes=4, max_frames=200).path


def arguments(frames: Path, out: Path, *more: str) -> list[str]:
    fixed = [f"--config={CONFIG}", f"--frames={frames}", f"--out={out}", "--wandb.mode=disabled"]
    return ["sweep", *fixed, *more]


def sweep(frames: Path, out: Path, *more: str) -> int:
    return cli.main(arguments(frames, out, *more))


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
    (out / ".ray_tune" / "trials-1").mkdir(parents=True)  # as of a sweep that was killed
    assert sweep(frames, out, *options, "--resume", "--accept_failed") == 0
    assert not (out / ".ray_tune").exists()
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
    assert re.search(r"every training failed, 00_learning_rate_1e\+30_seed_0 because: update \d+: the loss", said[0])
    assert re.search(r"All are shown in \S+sweep\.html\. Change what they have in common in another --out, or", said[1])
    assert '<span class="verdict below">Failed:</span>' in (out / "sweep.html").read_text(encoding="utf-8")
    assert pq.read_table(out / "trials.parquet").to_pylist()[0]["failure"].startswith("update ")
    assert not (out / "manifest.json").exists()


def test_an_objective_that_is_no_figure_is_named(frames, tmp_path, capfd):
    options = ["--num_seeds=1", "--space={}", "--objective=perplexit", "--resources.num_retries=0"]
    assert sweep(frames, tmp_path / "out", *options) == cli.EXIT_BAD_INPUT
    assert "--objective perplexit: no validation figure; there are " in capfd.readouterr().err


def is_midway(out: Path) -> bool:
    """Whether a training is whole and another has a checkpoint to go on from."""
    whole = {path.parent for path in out.glob("trials/*/manifest.json")}
    begun = {path.parents[1] for path in out.glob(f"trials/*/{LAST}")}
    return bool(whole) and bool(begun - whole)


def kill_midway(frames: Path, out: Path, *more: str) -> None:
    """SIGKILL of a sweep's own process, and of nothing that it started."""
    folder = Path(tempfile.mkdtemp(prefix="lapa-"))  # short: Ray's sockets lie in it, and their paths are bounded
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "lapa_ray.cli", *arguments(frames, out, *more)]
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment | {"RAY_TMPDIR": str(folder)},
            start_new_session=True,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            end = time.monotonic() + 200
            while not is_midway(out):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < end, (folder / "log").read_text()
                time.sleep(0.01)
            assert len(processes_of(process.pid)) > 1
        finally:
            process.kill()
            process.wait()
            left = left_of(process.pid, timeout_s=30)
            shutil.rmtree(folder, ignore_errors=True)
    assert left == []


def test_a_killed_sweep_is_resumed_to_the_trainings_of_an_unbroken_one(frames, tmp_path):
    out, unbroken, options = tmp_path / "killed", tmp_path / "unbroken", ["--asha.enabled=false"]
    kill_midway(frames, out, *options, "--resources.max_concurrent=1")
    assert not (out / "manifest.json").exists()
    kept = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.glob("trials/*/manifest.json")}
    assert 1 <= len(kept) < 4
    assert sweep(frames, out, *options, "--resume") == 0
    for path, before in kept.items():
        assert (path.stat().st_mtime_ns, path.read_bytes()) == before, "what was whole is kept"
    assert sweep(frames, unbroken, *options) == 0
    rows, like = (pq.read_table(folder / "trials.parquet").to_pylist() for folder in (out, unbroken))
    for row, other in zip(rows, like, strict=True):
        assert row == {name: _about(value) for name, value in other.items()}
    assert len({row["trial"] for row in rows}) == 4
    for name in ("trials", "."):
        folders = ({path.name for path in (folder / name).iterdir()} for folder in (out, unbroken))
        assert next(folders) == next(folders), "nothing twice, and nothing left over"
    for row in rows:
        logs = [read_metrics(folder / "trials" / row["trial"] / "metrics.jsonl") for folder in (out, unbroken)]
        steps, others = ([(line["step"], "val_loss" in line) for line in log] for log in logs)
        assert steps == others


def _about(value):
    return pytest.approx(value, rel=1e-4) if isinstance(value, float) else value


def test_a_training_that_fails_once_is_whole_by_its_retry_beside_one_that_asha_ends(frames, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(sweep_trials, "Sweeping", partial(Failing, num_failures=1))
    options = ["--num_seeds=1", "--space={learning_rate: [0.003, 1.0e-9]}", "--objective=psnr_db"]
    assert sweep(frames, out, *options, "--resources.max_concurrent=1", "--resources.num_retries=1") == 0
    rows = pq.read_table(out / "trials.parquet").to_pylist()
    assert [(row["state"], row["failure"]) for row in rows] == [("whole", ""), ("ended early", "")]
    assert [num_attempts(out / ATTEMPTS / row["trial"]) for row in rows] == [2, 1]
    figures = open_artefact(out, "sweep").manifest.figures
    assert (figures["num_trials"], figures["num_ended_early"], figures["num_failed"]) == (2, 1, 0)
    assert figures["best"] == "learning_rate_0.003"
    steps = [row["step"] for row in read_metrics(out / "trials" / rows[0]["trial"] / "metrics.jsonl")]
    assert steps == sorted(steps)


def test_a_training_that_goes_on_failing_is_retried_as_often_as_asked_and_no_more(frames, tmp_path, monkeypatch, capfd):
    out = tmp_path / "out"
    monkeypatch.setattr(sweep_trials, "Sweeping", partial(Failing, num_failures=9))
    options = ["--num_seeds=1", "--space={learning_rate: [0.003]}", "--resources.num_retries=1"]
    assert sweep(frames, out, *options) == cli.EXIT_BAD_INPUT
    assert "because: RuntimeError: attempt 2 fails" in capfd.readouterr().err
    assert num_attempts(next((out / ATTEMPTS).iterdir())) == 2


def test_a_retry_tells_the_scheduler_of_validations_as_an_unbroken_training_would(frames, tmp_path, monkeypatch):
    """The second one is lost between its row in the log and the checkpoint, as by a disk that is full."""
    told = []

    def report(result: dict) -> None:
        told.append(result["validations"])
        if len(told) == 2:
            raise OSError("lost")

    monkeypatch.setattr(sweep_trials.tune, "report", report)
    fixed = yaml.safe_load(CONFIG.read_text()) | {"num_seeds": 1, "space": {}, "wandb": {"mode": "disabled"}}
    ((_, trial),) = plan(SweepConfig.model_validate(fixed | {"frames": frames, "out": tmp_path / "out"})).values()
    attempt = partial(run_trial, trial, sweep_trials.Sweeping("perplexity"), tmp_path / "stop", tmp_path / "failure")
    with pytest.raises(OSError, match="lost"):
        attempt()
    attempt()
    assert told == [1, 2, 2, 3]


def test_trainings_of_half_a_core_each_run_more_at_once_than_there_are_cores(frames, tmp_path, monkeypatch):
    """Each waits for the two others, on the two cores of the shared Ray."""
    out = tmp_path / "out"
    monkeypatch.setattr(sweep_trials, "Sweeping", partial(Meeting, num_trainings=3))
    options = ["--num_seeds=3", "--space={}", "--asha.enabled=false", "--train.training.max_updates=1"]
    assert sweep(frames, out, *options, "--resources.cpus_per_trial=0.5", "--resources.num_retries=0") == 0
    assert [row["state"] for row in pq.read_table(out / "trials.parquet").to_pylist()] == ["whole"] * 3
