"""What `compare-replay` plans, and how it tells of what went wrong; the trials themselves run in `integration`."""

from pathlib import Path

import pytest

from lapa_ray.core.config import identity_of
from lapa_ray.core.errors import LapaError
from lapa_ray.evaluation.comparison import Trial, TrialLog
from lapa_ray.stages import compare_replay
from lapa_ray.stages.compare_replay import CompareReplayConfig, as_nested, plan, trial_config
from lapa_ray.stages.dqn_training import TrainDqnConfig
from lapa_ray.stages.trial_progress import last_step
from lapa_ray.stages.trials import StopFile


def config(**changes: object) -> CompareReplayConfig:
    return CompareReplayConfig.model_validate({"out": "somewhere", "seed": 5} | changes)


def test_trials_are_balanced_at_any_time_and_each_is_what_train_dqn_would_do():
    asked = config(num_seeds=2, train={"num_steps": 123_456, "workers": {"num_workers": 3}})
    trials = plan(asked)
    assert [trial.name for trial in trials] == [
        "uniform_seed_5", "prioritised_seed_5", "uniform_seed_6", "prioritised_seed_6",
    ]  # fmt: skip
    alone = TrainDqnConfig(out=Path("x"), num_steps=123_456, use_per=True, seed=6)
    last = trial_config(asked, trials[-1])
    assert identity_of(last) == identity_of(alone)
    assert last.workers.num_workers == 3
    assert last.out == Path("somewhere/trials/prioritised_seed_6").resolve()


def test_faults_of_a_training_name_the_options_of_the_comparison():
    told = as_nested("--replay.min_size 3: larger than --replay.capacity 2; see --out and --resume.")
    assert told == "--train.replay.min_size 3: larger than --train.replay.capacity 2; see --out and --resume."
    with pytest.raises(LapaError, match=r"^--train\.num_steps 10: ends before the first update"):
        plan(config(train={"num_steps": 10}))


def test_a_comparison_of_nothing_but_failures_is_none():
    failed = TrialLog(
        Trial(name="uniform_seed_0", replay="uniform", seed=0, failure="--train.replay.capacity: lower it.")
    )
    with pytest.raises(
        LapaError, match=r"every training failed, uniform_seed_0 because: --train\.replay\.capacity: lower"
    ):
        compare_replay._check_any([failed, failed])


def test_measured_episodes_are_spread_over_all():
    assert compare_replay._spread(list(range(10)), 3) == [0, 3, 6]
    assert compare_replay._spread([4, 7], None) == compare_replay._spread([4, 7], 9) == [4, 7]


def test_progress_is_the_last_whole_row_however_long_the_log(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(f'{{"step": {step}, "loss": 0.1}}\n' for step in range(2000)) + '{"step": 2001, "lo')
    assert last_step(log) == 1999
    log.write_text("")
    assert last_step(log) is None


def test_a_file_is_a_request_to_stop_that_stays(tmp_path):
    assert not StopFile(tmp_path / "stop")
    (tmp_path / "stop").touch()
    stop = StopFile(tmp_path / "stop")
    assert stop
    (tmp_path / "stop").unlink()
    assert stop
