"""The training loop, in this process."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch

from lapa_ray.core.errors import LapaError
from lapa_ray.core.metric_log import MetricLog, read_metrics
from lapa_ray.core.stop import StopRequest
from lapa_ray.models.checkpoint import load_checkpoint, save_checkpoint
from lapa_ray.stages import throughput
from lapa_ray.stages.fit import run_fit
from lapa_ray.stages.fit_checkpoints import BEST, LAST
from lapa_ray.stages.fit_config import FitResources, TrainingConfig
from lapa_ray.stages.fit_loop import FitResult
from lapa_ray.stages.fit_share import Share
from tests.support.stop_points import PowerCutAt, PowerCutError, StopAt
from tests.support.toy_task import ToyConfig, ToyTask

NUM_UPDATES = 20


def train(folder, config=None, stop=None, task=ToyTask, **changes) -> FitResult:
    config = (config or ToyConfig()).model_copy(update=changes)
    stop = StopRequest() if stop is None else stop
    return run_fit("toy", config, lambda share, device: task(config, share, device), folder, stop)


class PlainTask(ToyTask):
    """Without what depends on the batch: normalisation and dropout."""

    def __init__(self, config, share, device) -> None:
        super().__init__(config, share, device)
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Linear(8, 1))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)


def rows(folder):
    return [row for row in read_metrics(folder / "metrics.jsonl") if "val_loss" not in row]


def states(folder):
    return load_checkpoint(folder / LAST)


def assert_equal_states(one, other):
    assert one.keys() == other.keys()
    torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("stopped_at", [0, 1, 3, 5, 12, 19])
def test_a_stopped_and_resumed_run_equals_an_unbroken_one(tmp_path, stopped_at):
    unbroken = train(tmp_path / "unbroken")
    num_validations = stopped_at // 5  # each asks once more
    part = train(tmp_path / "resumed", stop=StopAt(stopped_at + num_validations))
    assert (part.update, part.finished) == (stopped_at, False)
    assert train(tmp_path / "resumed") == unbroken
    assert read_metrics(tmp_path / "resumed/metrics.jsonl") == read_metrics(tmp_path / "unbroken/metrics.jsonl")
    assert_equal_states(states(tmp_path / "resumed"), states(tmp_path / "unbroken"))


@pytest.mark.parametrize("validation", [1, 4])
def test_a_stop_during_a_validation_ends_it_and_the_resumed_run_makes_up_for_it(tmp_path, validation):
    """The loop asks once before each of the five updates of an epoch, and once in each validation."""
    unbroken = train(tmp_path / "unbroken")
    part = train(tmp_path / "resumed", stop=StopAt(6 * validation - 1))
    assert (part.update, part.is_validated, part.finished) == (5 * validation, False, False)
    assert train(tmp_path / "resumed") == unbroken
    assert read_metrics(tmp_path / "resumed/metrics.jsonl") == read_metrics(tmp_path / "unbroken/metrics.jsonl")
    assert_equal_states(states(tmp_path / "resumed"), states(tmp_path / "unbroken"))


def test_a_killed_run_resumes_from_its_last_checkpoint_and_logs_no_row_twice(tmp_path):
    """Killed after update 8: the last checkpoint is of update 6, the rows of 7 and 8 are logged again."""
    train(tmp_path / "unbroken")
    with pytest.raises(PowerCutError):
        train(tmp_path / "killed", stop=PowerCutAt(9))  # asked in the validation after update 5 too
    assert states(tmp_path / "killed")["update"] == 6
    assert [row["step"] for row in rows(tmp_path / "killed")] == list(range(1, 9))
    train(tmp_path / "killed")
    assert read_metrics(tmp_path / "killed/metrics.jsonl") == read_metrics(tmp_path / "unbroken/metrics.jsonl")
    assert_equal_states(states(tmp_path / "killed"), states(tmp_path / "unbroken"))


class CountingTask(ToyTask):
    """Counts its updates beside model and optimiser, and tells the count at each."""

    count = 0

    def state(self):
        return {"count": self.count}

    def load_state(self, state):
        self.count = state.get("count", 0)

    def observe(self, update, log, folder):
        self.count += 1
        log.write(update, {"val_loss": 0.0, "count": float(self.count)})


def counts(folder) -> dict[int, float]:
    return {row["step"]: row["count"] for row in read_metrics(folder / "metrics.jsonl") if "count" in row}


def test_what_a_task_keeps_beside_its_model_goes_on_from_the_checkpoint(tmp_path):
    with pytest.raises(PowerCutError):
        train(tmp_path, task=CountingTask, stop=PowerCutAt(9))
    assert states(tmp_path)["task"] == {"count": 6}
    train(tmp_path, task=CountingTask)
    assert counts(tmp_path) == {update: update for update in range(1, NUM_UPDATES + 1)}


def test_a_checkpoint_of_before_tasks_kept_anything_is_resumed(tmp_path):
    train(tmp_path, task=CountingTask, stop=StopAt(4))
    save_checkpoint(tmp_path / LAST, {name: value for name, value in states(tmp_path).items() if name != "task"})
    train(tmp_path, task=CountingTask)
    assert counts(tmp_path)[5] == 1


def test_an_epoch_takes_every_item_once(tmp_path):
    train(tmp_path)
    sums = [row["items_sum"] for row in rows(tmp_path)]
    assert [sum(sums[start : start + 5]) for start in range(0, NUM_UPDATES, 5)] == [sum(range(20))] * 4
    assert sums[:5] != sums[5:10]


def test_the_best_checkpoint_is_the_one_of_lowest_validation_loss(tmp_path):
    result = train(tmp_path, training=TrainingConfig(num_epochs=30, batch_size=4))
    losses = [row["val_loss"] for row in read_metrics(tmp_path / "metrics.jsonl") if "val_loss" in row]
    assert len(losses) == 30
    best = load_checkpoint(tmp_path / BEST)
    assert best["figures"]["loss"] == min(losses) == result.figures["loss"]
    task = ToyTask(ToyConfig(), Share(), torch.device("cpu"))
    task.model.load_state_dict(best["model"])
    task.model.eval()
    assert task.validate(lambda done: None)["loss"] == pytest.approx(min(losses))


def test_a_bound_on_updates_ends_with_a_validation(tmp_path):
    result = train(tmp_path, training=TrainingConfig(num_epochs=4, max_updates=7, batch_size=4))
    assert (result.update, result.num_updates, result.finished) == (7, 7, True)
    steps = [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl") if "val_loss" in row]
    assert steps == [5, 7]


def test_a_loss_that_is_not_a_number_keeps_the_last_good_checkpoint(tmp_path):
    with pytest.raises(LapaError, match=r"update 7: the loss is nan; .*last.pt keeps the last good state"):
        train(tmp_path, bad_update=7)
    state = states(tmp_path)
    assert state["update"] == 6
    assert all(value.isfinite().all() for value in state["model"].values())
    train(tmp_path)
    assert states(tmp_path)["update"] == NUM_UPDATES


BAD_WEIGHTS = r"^update {}: the weights are no numbers \(a gradient was none\); {}\. Try a lower --learning_rate\.$"


@pytest.mark.parametrize(
    ("period", "kept_period", "max_updates", "stop_after", "update", "kept"),
    [
        pytest.param(3, 0, None, None, 6, 5, id="at a checkpoint to go on from"),
        pytest.param(100, 2, None, None, 6, 5, id="at one that is kept"),
        pytest.param(100, 0, None, None, 10, 5, id="at the validation of an epoch"),
        pytest.param(4, 0, 7, None, 7, 5, id="at the last update"),
        pytest.param(100, 0, None, 7, 6, 5, id="at a stop"),  # asked for once more in the first validation
        pytest.param(3, 0, None, None, 3, 0, id="at the first checkpoint"),
    ],
)
def test_weights_that_are_no_numbers_are_neither_kept_nor_validated(
    tmp_path, period, kept_period, max_updates, stop_after, update, kept
):
    """Though every loss was a number."""
    where = FitResources(
        num_workers=0, device="cpu", checkpoint_period_updates=period, kept_checkpoint_period_updates=kept_period
    )
    how = {
        "resources": where,
        "training": TrainingConfig(num_epochs=4, max_updates=max_updates, batch_size=4, log_period_updates=1),
    }
    told = r".*last\.pt keeps the last good state" if kept else "none is kept"
    stop = None if stop_after is None else StopAt(stop_after)
    with pytest.raises(LapaError, match=BAD_WEIGHTS.format(update, told)):
        train(tmp_path, stop=stop, bad_gradient=update - 1, **how)
    assert all(math.isfinite(row["train_loss"]) for row in rows(tmp_path))
    assert [r["step"] for r in read_metrics(tmp_path / "metrics.jsonl") if "val_loss" in r] == ([5] if kept else [])
    for path in (tmp_path / "checkpoints").glob("*"):
        assert all(value.isfinite().all() for value in load_checkpoint(path)["model"].values()), path.name
    if kept:
        assert states(tmp_path)["update"] == kept
    assert train(tmp_path, **how).finished, "it goes on from there"


class UnsetTask(ToyTask):
    """A buffer that is never set, as vector-quantize-pytorch has some, of whatever the memory held."""

    def __init__(self, config, share, device) -> None:
        super().__init__(config, share, device)
        self.model.register_buffer("unset", torch.full((2,), math.nan))
        self.model.register_buffer("scale", torch.ones(2))


def test_buffers_that_were_no_numbers_from_the_start_are_none_of_its_business(tmp_path):
    train(tmp_path, task=UnsetTask, stop=StopAt(4))
    assert train(tmp_path, task=UnsetTask).finished


def test_buffers_that_become_no_numbers_are_told_as_weights_are(tmp_path):
    class SpoiltTask(UnsetTask):
        def observe(self, update, log, folder):
            if update == 5:
                self.model.scale[0] = math.inf

    with pytest.raises(LapaError, match=r"^update 6: the weights are no numbers"):
        train(tmp_path, task=SpoiltTask)


def test_a_batch_larger_than_the_data_is_refused(tmp_path):
    with pytest.raises(LapaError, match=r"--training.batch_size 32: larger than .* \(20 items a worker\)"):
        train(tmp_path, training=TrainingConfig(batch_size=32))


@pytest.mark.parametrize(("batch", "told"), [(32, "--training.batch_size 32: larger"), (8, "--training.accumulate_")])
def test_what_is_too_large_an_update_is_named_by_the_option_that_asks_for_it(tmp_path, batch, told):
    with pytest.raises(LapaError) as caught:
        train(tmp_path, training=TrainingConfig(batch_size=batch, accumulate_batches=3))
    assert str(caught.value).startswith(told)
    assert "(20 items a worker)" in str(caught.value)


def test_accumulated_batches_make_the_update_of_one_that_is_as_large(tmp_path):
    weights = {}
    for batch, accumulate in ((12, 1), (4, 3), (2, 6)):
        folder = tmp_path / str(batch)
        result = train(
            folder,
            task=PlainTask,
            training=TrainingConfig(
                num_epochs=2, batch_size=batch, accumulate_batches=accumulate, log_period_updates=1
            ),
        )
        assert result.num_updates == 2
        weights[batch] = states(folder)["model"]
        assert [row["items_sum"] * accumulate for row in rows(folder)] == pytest.approx(
            [row["items_sum"] for row in rows(tmp_path / "12")]
        )
    for batch in (4, 2):
        torch.testing.assert_close(weights[batch], weights[12])
    untrained = PlainTask(ToyConfig(), Share(), torch.device("cpu")).model.state_dict()
    assert (weights[12]["0.weight"] - untrained["0.weight"]).abs().max() > 1e-3, "else they would be alike untrained"


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_float32_weights_to_about_the_same(tmp_path, precision):
    full, half = tmp_path / "float32", tmp_path / precision
    training = TrainingConfig(num_epochs=8, batch_size=4, log_period_updates=1)
    untrained = None
    for folder in (full, half):
        resources = FitResources(num_workers=0, device="cpu", precision=folder.name)
        result = train(folder, task=PlainTask, training=training, resources=resources)
        state = states(folder)
        moments = [value for moment in state["optimizer"]["state"].values() for value in moment.values()]
        assert {value.dtype for value in [*state["model"].values(), *moments]} == {torch.float32}
        untrained = untrained or rows(folder)[0]["train_loss"]
        assert result.figures["loss"] < untrained / 2
    losses = [[row["train_loss"] for row in rows(folder)] for folder in (full, half)]
    assert losses[0] != losses[1], "it was really half"
    assert losses[1][0] == pytest.approx(losses[0][0], rel=0.05)


def test_the_scale_of_float16_losses_survives_a_stop(tmp_path):
    """It begins too high for this task, so the first updates halve it and change nothing else."""
    half = FitResources(num_workers=0, device="cpu", precision="float16", checkpoint_period_updates=3)
    unbroken = train(tmp_path / "unbroken", resources=half)
    train(tmp_path / "resumed", resources=half, stop=StopAt(4))
    scale = states(tmp_path / "resumed")["scaler"]["scale"]
    assert 0 < scale < 2**16
    assert train(tmp_path / "resumed", resources=half) == unbroken
    assert_equal_states(states(tmp_path / "resumed"), states(tmp_path / "unbroken"))
    assert read_metrics(tmp_path / "resumed/metrics.jsonl") == read_metrics(tmp_path / "unbroken/metrics.jsonl")


class NeverValidTask(ToyTask):
    """The first two validations of a start are not-a-number."""

    validations = 0

    def validate(self, tick):
        self.validations += 1
        return super().validate(tick) if self.validations > 2 else {"loss": float("nan")}


def test_a_first_validation_that_is_no_number_keeps_a_best_until_there_is_a_better(tmp_path):
    short = TrainingConfig(num_epochs=1, batch_size=4)
    for name, num_epochs in (("one", 1), ("two", 2), ("two", 2)):  # the third is resumed at its end
        with pytest.raises(LapaError, match=r"^update \d+: no validation had a loss that is a number; try a lower"):
            train(tmp_path / name, task=NeverValidTask, training=short.model_copy(update={"num_epochs": num_epochs}))
        assert load_checkpoint(tmp_path / name / BEST)["update"] == 5, "the second is no better"
    result = train(tmp_path / "four", task=NeverValidTask)
    best = load_checkpoint(tmp_path / "four" / BEST)
    assert best["update"] in {15, 20}
    assert best["figures"] == result.figures
    assert result.figures["loss"] > 0


def test_throughput_is_logged_when_it_is_due(tmp_path, monkeypatch):
    """By a clock that goes on by a second each time it is looked at: once before an update, once after."""
    monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=itertools.count().__next__))
    quick = FitResources(num_workers=0, device="cpu", throughput_period_updates=4)
    train(tmp_path, resources=quick, training=TrainingConfig(num_epochs=4, batch_size=2, accumulate_batches=2))
    rows = [row for row in read_metrics(tmp_path / "metrics.jsonl") if "samples_per_s" in row]
    assert [(row["step"], row["samples_per_s"]) for row in rows] == [(step, 4) for step in (4, 8, 12, 16, 20)]


@pytest.mark.parametrize(("said", "share"), [("37\n", 0.37), ("[N/A]\n", None), ("", None)])
def test_how_busy_a_gpu_is_comes_from_what_nvidia_smi_says(said, share):
    told = throughput.share_of(said)
    assert math.isnan(told) if share is None else told == share


def test_checkpoints_are_kept_now_and_then(tmp_path):
    train(tmp_path, resources=FitResources(num_workers=0, device="cpu", kept_checkpoint_period_updates=8))
    kept = sorted((tmp_path / "checkpoints").glob("update_*"))
    assert [path.name for path in kept] == ["update_0000008.pt", "update_0000016.pt"]
    assert load_checkpoint(kept[0])["update"] == 8
    ToyTask(ToyConfig(), Share(), torch.device("cpu")).model.load_state_dict(load_checkpoint(kept[0])["model"])


def test_compiling_without_a_compiler_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(LapaError, match=r"--resources\.compile: torch\.compile needs a C\+\+ compiler"):
        train(tmp_path, resources=FitResources(num_workers=0, device="cpu", compile=True))


def test_a_damaged_checkpoint_is_named(tmp_path):
    train(tmp_path, stop=StopAt(4))
    (tmp_path / LAST).write_bytes(b"cut")
    with pytest.raises(LapaError, match=r"last\.pt: damaged checkpoint"):
        train(tmp_path)


def test_a_device_that_is_not_there_is_refused(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(LapaError, match=r"--resources\.device cuda: "):
        train(tmp_path, resources=FitResources(num_workers=0, device="cuda"))


def test_rows_are_kept_as_they_are_where_none_is_to_be_forgotten(tmp_path):
    with MetricLog(tmp_path / "metrics.jsonl", "toy") as log:
        log.write(0, {"train_loss": 1.0})
    before = (tmp_path / "metrics.jsonl").read_bytes()
    train(tmp_path, stop=StopAt(0))
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
