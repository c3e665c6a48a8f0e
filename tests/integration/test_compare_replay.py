"""`compare-replay` on real ALE, Ray and Tune: stopped, killed, failed and resumed, it ends as it should.

Two trials at once reserve all of Ray's cores: an actor outside its trial's placement group would never start.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lapa_ray import cli
from lapa_ray.core.artefact import open_artefact
from lapa_ray.core.metric_log import read_metrics
from lapa_ray.core.progress import Progress
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.evaluation.comparison import Comparison
from lapa_ray.models.q_network import load_agent
from lapa_ray.stages.trials import BEGUN_FILE, STOP_FILE, TUNE_FOLDER
from tests.support.small_chain import write_frames

pytestmark = pytest.mark.shared_ray

ROOT = Path(__file__).parents[2]
NAMES = ("uniform_seed_0", "prioritised_seed_0", "uniform_seed_1", "prioritised_seed_1")


def command(out: Path, *more: object) -> list[str]:
    config = ROOT / "tune_configs" / "micro" / "compare_replay.yaml"
    return ["compare-replay", f"--config={config}", f"--out={out}", "--wandb.mode=disabled", *map(str, more)]


def trial_drivers() -> Iterator[int]:
    """Process ids of the trials' drivers that Ray runs for this process."""
    for folder in Path("/proc").iterdir():
        try:
            title = (folder / "cmdline").read_bytes().split(b"\0")[0].decode()
            if title.startswith("ray::ImplicitFunc") and parent(parent(int(folder.name))) == os.getpid():
                yield int(folder.name)
        except (OSError, ValueError):
            continue


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def whole(out: Path) -> set[str]:
    return {name for name in NAMES if (out / "trials" / name / "manifest.json").exists()}


@pytest.fixture(scope="module")
def random_play(tmp_path_factory) -> Path:
    return write_frames(tmp_path_factory.mktemp("random") / "frames", num_episodes=3, max_frames=400).path


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, random_play) -> Path:
    """A comparison one of whose trials lost its process, and that a Ctrl-C ended before all were done."""
    out, plain, done = tmp_path_factory.mktemp("compared") / "out", Progress.advance_to, []

    def advance_to(progress, steps: int, note: str = "") -> None:
        plain(progress, steps, note)
        if not done and steps > 150:
            victim = next(trial_drivers())
            os.kill(victim, signal.SIGKILL)
            done.append(victim)
        if len(done) == 1 and whole(out) and steps > 850:
            done.append(os.kill(os.getpid(), signal.SIGINT))

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Progress, "advance_to", advance_to)
        assert cli.main(command(out, f"--beside={random_play}")) == cli.EXIT_STOPPED
    assert len(done) == 2
    return out


@pytest.fixture(scope="module")
def compared(stopped, random_play) -> tuple[Path, str]:
    """The same resumed with one trial's note of its checkpoint damaged, and settled for; and which trial that was."""
    begun = [name for name in NAMES if (stopped / "trials" / name / "run.json").exists()]
    victim = next(name for name in begun if name not in whole(stopped))
    note = stopped / "trials" / victim / "checkpoints" / "latest.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text("{")
    kept = {name: (stopped / "trials" / name / "manifest.json").stat().st_mtime_ns for name in whole(stopped)}
    resumed = command(stopped, "--resume", f"--beside={random_play}", "--resources.num_retries=0")
    assert cli.main(resumed) == cli.EXIT_BAD_INPUT
    for name, changed in kept.items():  # what was whole is kept as it was
        assert (stopped / "trials" / name / "manifest.json").stat().st_mtime_ns == changed
    return stopped, victim


def test_a_stop_keeps_what_is_whole_and_the_checkpoints_of_the_rest(stopped):
    assert whole(stopped)
    assert whole(stopped) < set(NAMES)
    assert not (stopped / "manifest.json").exists()
    assert not [path.name for path in stopped.iterdir() if path.name in {STOP_FILE, BEGUN_FILE, TUNE_FOLDER}]


def test_a_trial_that_fails_is_shown_and_the_others_are_compared(compared):
    out, victim = compared
    assert whole(out) == set(NAMES) - {victim}
    told = Comparison.load(out)
    assert {trial.name for trial in told.trials if trial.failure} == {victim}
    reason = next(trial.failure for trial in told.trials if trial.failure)
    assert re.fullmatch(r".*latest\.json: damaged .*; start again in another --out\.", reason)
    html = (out / "comparison.html").read_text(encoding="utf-8")
    assert "1 of 4 trainings failed and are part of no figure." in html
    assert not (out / "manifest.json").exists()  # --resume would try it again


def test_all_trials_end_with_the_steps_and_updates_that_they_would_have_alone(compared):
    out, victim = compared
    for name in set(NAMES) - {victim}:
        agent = open_artefact(out / "trials" / name, "agent")
        replay, _, seed = name.partition("_seed_")
        assert (agent.manifest.figures["replay"], agent.manifest.seed) == (replay, int(seed))
        assert 400 <= agent.manifest.figures["num_steps"] <= 402
        assert agent.manifest.figures["num_updates"] == 8 * (400 - 200) // 32
        assert load_agent(agent).head.out_features == 9
        steps = [row["step"] for row in read_metrics(out / "trials" / name / "metrics.jsonl")]
        assert steps == sorted(steps)


def test_the_table_holds_every_logged_row(compared):
    out, victim = compared
    table = pq.read_table(out / "metrics.parquet").to_pylist()
    for name in NAMES:
        logged = read_metrics(out / "trials" / name / "metrics.jsonl")
        ours = [row for row in table if row["trial"] == name]
        assert [row["step"] for row in ours] == [row["step"] for row in logged]
        assert [row["td_error"] for row in ours] == [row.get("td_error") for row in logged]
        assert {(row["replay"], row["seed"]) for row in ours} <= {(name.partition("_")[0], int(name[-1]))}
        assert ours or name == victim


def test_every_measure_stands_for_both_replays_and_the_data_beside_random_play(compared, random_play):
    (out, victim), told = compared, Comparison.load(compared[0])
    for name in ("return", "mean_q", "variance_q", "max_q", "td_error", "gradient_norm"):
        for replay in ("uniform", "prioritised"):
            assert told.summaries[replay][name].mean.value is not None, name
    assert list(told.beside) == ["random"]
    dataset = FrameDataset.open(random_play)
    returns = [dataset.episode_return(episode) for episode in dataset.episode_ids]
    assert told.beside["random"]["data_return_mean"].value == pytest.approx(sum(returns) / 3)
    for trial in (trial for trial in told.trials if trial.name != victim):
        gameplay = FrameDataset.open(out / "trials" / trial.name / "gameplay")
        lengths = [gameplay.num_steps(episode) for episode in gameplay.episode_ids]
        assert trial.values["data_length_mean_steps"] == pytest.approx(sum(lengths) / len(lengths))
        assert trial.values["data_distinct_screens"] > 10
    html = (out / "comparison.html").read_text(encoding="utf-8")
    assert html.count("<svg") == 9
    assert "Distinct screens" in html
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")
    json.loads((out / "data_quality.json").read_text())


def test_what_failed_may_be_settled_for_without_training_anything(compared, random_play, capsys):
    out, victim = compared
    begun = (out / "trials" / victim / "run.json").stat().st_mtime_ns
    settled = [f"--beside={random_play}", "--accept_failed"]
    for name in (STOP_FILE, BEGUN_FILE):  # as a kill leaves them
        (out / name).touch()
    assert cli.main(command(out, "--resume", *settled)) == 0
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]
    assert (out / "trials" / victim / "run.json").stat().st_mtime_ns == begun
    assert Comparison.load(out).trials[NAMES.index(victim)].failure
    figures = open_artefact(out, "comparison").manifest.figures
    assert (figures["num_trials"], figures["num_failed_trials"]) == (4, 1)
    assert cli.main(command(out, *settled)) == 0
    assert "nothing is left to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--train.replay.min_size=2000", r"--train\.replay\.min_size 2000: larger than --train\.replay\.capacity 1000"),
        ("--train.num_steps=100", r"--train\.num_steps 100: ends before the first update"),
        ("--train.env.game=Pacmann", r"--train\.env\.game Pacmann: the ALE has no such game; did you mean Pacman"),
        ("--seed=2147483647", r"--num_seeds 2: seeds beyond 2147483647; give a lower --seed"),
        ("--num_seeds=0", r"--num_seeds: should be INT with x > 0; got 0"),
        ("--beside=nowhere", r"nowhere: no such directory; a frame dataset"),
        ("--train.workers.num_workers=40", r"Ray: need 10\.75 CPU, have 2; ask for fewer workers"),
    ],
)
def test_bad_input_is_refused_in_two_lines_and_leaves_nothing(option, said, tmp_path, capfd):
    capfd.readouterr()
    assert cli.main(command(tmp_path / "out", option)) == cli.EXIT_BAD_INPUT
    err = capfd.readouterr().err
    assert re.search(said, err), err
    assert len(err.splitlines()) <= 2, err
    assert list(tmp_path.iterdir()) == []
