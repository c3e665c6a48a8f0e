"""What is looked at while a VQ-VAE trains: right, at its time, the same once resumed; and a collapse that ends it."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lapa_ray.core.errors import LapaError
from lapa_ray.core.metric_log import MetricLog, read_metrics
from lapa_ray.core.pictures import to_rgb
from lapa_ray.core.stop import StopRequest
from lapa_ray.models.checkpoint import load_checkpoint
from lapa_ray.models.colour import PaletteRgb
from lapa_ray.models.quantizer import QuantizerConfig
from lapa_ray.models.vqvae import Vqvae, VqvaeConfig, VqvaeOutput
from lapa_ray.stages.fit import run_fit
from lapa_ray.stages.fit_config import FitResources, TrainingConfig
from lapa_ray.stages.fit_loop import FitResult
from lapa_ray.stages.fit_share import Share
from lapa_ray.stages.vqvae_config import TrainVqvaeConfig
from lapa_ray.stages.vqvae_data import check_data
from lapa_ray.stages.vqvae_observer import CollapseWatch, ObservationConfig
from lapa_ray.stages.vqvae_task import VqvaeTask
from tests.support.made_ram import made_ram
from tests.support.pictures import wandering_square
from tests.support.recordings import write_play
from tests.support.stop_points import PowerCutAt, PowerCutError, StopAt

MODEL = VqvaeConfig(width=2, code_dim=4, quantizer=QuantizerConfig(codebook_size=8))
OFTEN = ObservationConfig(num_pairs=5, figures_period_updates=2, histogram_period_updates=3, samples_period_updates=3)
NUM_UPDATES = 6


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    episodes = [(made_ram(10), wandering_square(10, seed)) for seed in range(4)]
    return write_play(tmp_path_factory.mktemp("observed") / "frames", episodes)


def config_of(play, folder: Path, **changes) -> TrainVqvaeConfig:
    plain = TrainVqvaeConfig(
        frames=play.artefact.path,
        out=folder,
        model=MODEL,
        observe=OFTEN,
        training=TrainingConfig(max_updates=NUM_UPDATES, batch_size=4, log_period_updates=1),
        resources=FitResources(num_workers=0, device="cpu", checkpoint_period_updates=2),
    )
    return plain.model_copy(update=changes)


def train(play, folder: Path, stop=None, task=VqvaeTask, **changes) -> FitResult:
    folder.mkdir(exist_ok=True)
    config = config_of(play, folder, **changes)
    stop = StopRequest() if stop is None else stop
    return run_fit("train-vqvae", config, lambda share, device: task(config, share, device), folder, stop)


@pytest.fixture(scope="module")
def unbroken(play, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("training") / "unbroken"
    resources = FitResources(num_workers=0, device="cpu", kept_checkpoint_period_updates=3)
    assert train(play, folder, resources=resources, collapse_period_updates=2).finished, "its codebook is in use"
    return folder


def observed(folder: Path) -> dict[str, bytes]:
    paths = [*(folder / "samples").iterdir(), *(folder / "histograms").iterdir()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_everything_comes_when_it_is_due_and_nothing_else(unbroken):
    rows = [row["step"] for row in read_metrics(unbroken / "metrics.jsonl") if "sample_psnr_db" in row]
    assert rows == [2, 4, 6]
    files = {f"{what}/update_000000{update}" for what in ("samples", "histograms") for update in (3, 6)}
    assert {name.partition(".")[0] for name in observed(unbroken)} == files
    kept = sorted(path.name for path in (unbroken / "checkpoints").iterdir())
    assert kept == ["best.pt", "last.pt", "update_0000003.pt", "update_0000006.pt"]


def test_what_is_looked_at_changes_nothing_of_what_is_learnt(play, unbroken, tmp_path):
    never = dict.fromkeys(("figures_period_updates", "histogram_period_updates", "samples_period_updates"), 0)
    train(play, tmp_path, observe=ObservationConfig(**never))
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "metrics.jsonl"}
    rows = [row for row in read_metrics(unbroken / "metrics.jsonl") if "sample_psnr_db" not in row]
    assert read_metrics(tmp_path / "metrics.jsonl") == rows
    last = Path("checkpoints", "last.pt")
    torch.testing.assert_close(
        load_checkpoint(tmp_path / last)["model"], load_checkpoint(unbroken / last)["model"], rtol=0, atol=0
    )


class ShownLog(MetricLog):
    """Keeps what it is to show."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "train-vqvae")
        self.shown = []

    def show(self, step, pictures=None, counts=None):
        self.shown += [(step, name, value) for name, value in {**(pictures or {}), **(counts or {})}.items()]


def test_sheets_and_histograms_are_handed_to_the_log_as_they_are_kept(play, tmp_path):
    task = VqvaeTask(config_of(play, tmp_path), Share(), torch.device("cpu"))
    with ShownLog(tmp_path / "metrics.jsonl") as log:
        for update in range(1, NUM_UPDATES + 1):
            task.observe(update, log, tmp_path)
    assert [(step, name) for step, name, _ in log.shown] == [
        (step, name) for step in (3, 6) for name in ("codes", "reconstructions")
    ]
    for step, name, value in log.shown:
        if name == "codes":
            told = json.loads((tmp_path / "histograms" / f"update_000000{step}.json").read_text())
            assert value.tolist() == told["counts"]
            assert value.sum() == 5 * MODEL.num_tokens
        else:
            assert value.dtype == np.uint8
            kept = cv2.imread(str(tmp_path / "samples" / f"update_000000{step}.png"))[..., ::-1]
            np.testing.assert_array_equal(value, kept)


@pytest.mark.parametrize("stop", [StopAt(3), PowerCutAt(3)], ids=["stopped after 3", "killed after 3, resumed from 2"])
def test_a_resumed_training_writes_the_same_rows_and_files(play, unbroken, tmp_path, stop):
    if isinstance(stop, PowerCutAt):
        with pytest.raises(PowerCutError):
            train(play, tmp_path, stop)
        assert (tmp_path / "samples" / "update_0000003.png").exists()
    else:
        assert train(play, tmp_path, stop).update == 3
    assert train(play, tmp_path).finished
    assert read_metrics(tmp_path / "metrics.jsonl") == read_metrics(unbroken / "metrics.jsonl")
    assert observed(tmp_path) == observed(unbroken)


def test_figures_and_counts_are_those_of_the_same_few_held_out_pairs(play, unbroken):
    """By hand, of the model as it was kept after update 6."""
    _, _, (held_out,) = check_data(config_of(play, unbroken))
    pictures = play.composites(held_out)
    steps = np.array([0, 2, 4, 6, 8])  # five of nine pairs
    model = Vqvae(MODEL)
    model.load_state_dict(load_checkpoint(unbroken / "checkpoints" / "update_0000006.pt")["model"])
    palette = PaletteRgb(play.info.palette)
    frame_t, frame_t1 = (palette(torch.from_numpy(pictures[steps + more])) for more in (0, 1))
    with torch.inference_mode():
        output = model.eval()(frame_t, frame_t1)
    counts = np.bincount(output.codes.flatten().numpy(), minlength=8)
    told = json.loads((unbroken / "histograms" / "update_0000006.json").read_text())
    assert told == {"update": 6, "num_pairs": 5, "counts": counts.tolist()}
    before, after = (to_rgb(pictures[steps + more], play.info.palette).astype(float) for more in (0, 1))
    rebuilt = ((model.picture(output) + 1) * 127.5).round().permute(0, 2, 3, 1).numpy()
    row = next(r for r in read_metrics(unbroken / "metrics.jsonl") if r["step"] == 6 and "sample_psnr_db" in r)
    for whose, shown in (("", rebuilt), ("copy_last_", before)):
        squared = np.square(shown - after)
        assert row[f"sample_{whose}psnr_db"] == pytest.approx(10 * np.log10(255**2 / squared.mean()))
        assert row[f"sample_{whose}l2_levels"] == pytest.approx(np.sqrt(squared.mean()))
        assert row[f"sample_{whose}l1_levels"] == pytest.approx(np.abs(shown - after).mean())
        moved = (before != after).any(axis=-1)
        assert row[f"sample_{whose}changed_psnr_db"] == pytest.approx(10 * np.log10(255**2 / squared[moved].mean()))
        assert -1 <= row[f"sample_{whose}ssim"] <= 1
    assert row["sample_codes_used"] == np.count_nonzero(counts)


def test_checkpointed_gradients_give_the_losses_of_the_plain_training(play, unbroken, tmp_path):
    train(play, tmp_path, resources=FitResources(num_workers=0, device="cpu", checkpoint_gradients=True))
    names = ("train_loss", "reconstruction_loss", "quantizer_loss")
    losses = [
        [row[name] for row in read_metrics(folder / "metrics.jsonl") for name in names if name in row]
        for folder in (tmp_path, unbroken)
    ]
    assert len(losses[0]) >= 2 * NUM_UPDATES
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_checkpointed_gradients_differ_in_eval_mode_by_normalisations_that_count_each_batch_twice(
    play, unbroken, tmp_path
):
    """By nothing else, and after six updates by less than 1 % of the validation's loss."""
    checkpointed = FitResources(num_workers=0, device="cpu", checkpoint_gradients=True)
    train(play, tmp_path, resources=checkpointed)
    plain, twice = (load_checkpoint(folder / "checkpoints" / "last.pt")["model"] for folder in (unbroken, tmp_path))
    numbers = [name for name in plain if name.endswith("num_batches_tracked")]
    assert len(numbers) == 9
    assert all(twice[name] == 2 * plain[name] == 2 * NUM_UPDATES for name in numbers)
    counted = {name: value for name, value in plain.items() if name in numbers or ".running_" in name}
    torch.testing.assert_close(twice | counted, plain, rtol=1e-3, atol=1e-5)

    task = VqvaeTask(config_of(play, tmp_path, resources=checkpointed), Share(), torch.device("cpu"))
    loss, loss_of_plain, loss_of_twice = (validation_loss(task, model) for model in (twice | counted, plain, twice))
    assert loss == pytest.approx(loss_of_plain, rel=1e-4)
    assert loss_of_twice != pytest.approx(loss_of_plain, rel=1e-4)
    assert loss_of_twice == pytest.approx(loss_of_plain, rel=0.01)


def validation_loss(task: VqvaeTask, weights: dict[str, torch.Tensor]) -> float:
    task.model.load_state_dict(weights)
    task.model.eval()
    return task.validate(lambda _done: None)["loss"]


class OneCodeTask(VqvaeTask):
    """All codes but one are out of reach."""

    def __init__(self, config, share, device) -> None:
        super().__init__(config, share, device)
        with torch.no_grad():
            self._vqvae.quantizer.vq._codebook.embed[:, 1:] = 1e6


def test_a_collapsed_codebook_ends_the_training_in_one_line_and_can_be_ignored(play, tmp_path):
    brief = TrainingConfig(max_updates=3, batch_size=4)
    with pytest.raises(
        LapaError, match=r"^update 2: the codebook has collapsed: perplexity 1.00 over .* 2 updates"
    ) as e:
        train(play, tmp_path, task=OneCodeTask, collapse_period_updates=2, training=brief)
    assert "\n" not in str(e.value)
    assert "try --model.quantizer.kind ema" in str(e.value)
    assert train(play, tmp_path, task=OneCodeTask, collapse_period_updates=0, training=brief).finished


@pytest.mark.parametrize("stop", [StopAt(3), PowerCutAt(3)], ids=["stopped after 3", "killed after 3, resumed from 2"])
def test_a_training_resumed_inside_a_period_is_ended_where_the_unbroken_one_is(play, tmp_path, stop):
    """And again each time that it is resumed after that."""
    brief = TrainingConfig(max_updates=5, batch_size=4)

    def resume(folder: Path, **how) -> FitResult:
        return train(play, folder, task=OneCodeTask, collapse_period_updates=4, training=brief, **how)

    if isinstance(stop, PowerCutAt):
        with pytest.raises(PowerCutError):
            resume(tmp_path / "resumed", stop=stop)
    else:
        assert resume(tmp_path / "resumed", stop=stop).update == 3
    said = []
    for folder in ("unbroken", "unbroken", "resumed", "resumed"):
        with pytest.raises(LapaError, match=r"^update 4: the codebook has collapsed") as error:
            resume(tmp_path / folder)
        said.append(str(error.value))
        assert load_checkpoint(tmp_path / folder / "checkpoints" / "last.pt")["update"] < 4
    assert len({*said}) == 1


def codes(*values: int) -> VqvaeOutput:
    none = torch.zeros(())
    return VqvaeOutput(none, torch.tensor([values]), none)


@pytest.mark.parametrize(
    ("size", "batches", "collapsed"),
    [
        (8, [[0, 0, 0, 0]] * 3, True),
        (8, [[0, 0, 0, 1]] * 3, True),
        (8, [[0, 0], [1, 1], [2, 2]], False),  # one code a batch, but not the same
        (8, [[0, 1, 2, 2]] * 3, False),
        (2, [[0, 0, 0, 1]] * 3, False),  # there are no more than two
        (2, [[0, 0, 0, 0]] * 3, False),
    ],
)
def test_a_collapse_is_told_from_the_codes_of_all_updates_together(size, batches, collapsed):
    watch = CollapseWatch(size, 3)
    for update, batch in enumerate(batches[:-1], start=1):
        watch.add(codes(*batch))
        watch.check(update)
    watch.add(codes(*batches[-1]))
    if collapsed:
        with pytest.raises(LapaError, match="collapsed"):
            watch.check(3)
    else:
        watch.check(3)


def test_a_period_that_was_seen_in_part_alone_is_not_judged():
    """As after a resume from a checkpoint of before there were counts in it."""
    watch = CollapseWatch(8, 3)
    watch.load_state({})
    for update in (2, 3):
        watch.add(codes(0, 0))
        watch.check(update)
    for update in (4, 5):
        watch.add(codes(0, 0))
        watch.check(update)
    watch.add(codes(0, 0))
    with pytest.raises(LapaError, match="over the last 3 updates"):
        watch.check(6)


def resumed_at_each_update(num_updates: int, batches: list[list[int]]) -> None:
    state: dict = {}
    for update, batch in enumerate(batches, start=1):
        watch = CollapseWatch(8, num_updates)
        watch.load_state(state)
        watch.add(codes(*batch))
        watch.check(update)
        state = watch.state()


def test_counts_go_on_from_where_they_were():
    in_use, rare = [[0, 1, 2, 3], [0, 0, 0, 0], [0, 0, 0, 0]], [[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    resumed_at_each_update(3, in_use * 2)
    with pytest.raises(LapaError, match=r"^update 6: .* perplexity 1.33 over the last 3 updates"):
        resumed_at_each_update(3, in_use + rare)


def test_what_was_counted_before_a_pause_of_the_watch_is_forgotten():
    """With --collapse_period_updates 0 in between, a period would have a hole."""
    first, none, again = CollapseWatch(8, 3), CollapseWatch(8, 0), CollapseWatch(8, 3)
    first.add(codes(0, 0))
    first.check(1)
    none.load_state(first.state())
    none.check(2)
    assert none.state() == {}
    again.load_state(none.state())
    again.add(codes(0, 0))
    again.check(3)


def test_still_pairs_alone_are_refused(tmp_path):
    still, moving = np.repeat(wandering_square(1), 40, axis=0), wandering_square(1, seed=1)
    ram = made_ram(40)
    alike = write_play(tmp_path / "still", [(ram, still), (ram, still)])
    with pytest.raises(
        LapaError, match=r"still: every pair of the training episodes is still, .*; record play"
    ) as told:
        check_data(config_of(alike, tmp_path / "out"))
    assert "\n" not in str(told.value)
    late = np.concatenate([still[:39], moving])
    other = write_play(tmp_path / "late", [(ram, late), (ram, late)])
    check_data(config_of(other, tmp_path / "out"))


def test_codes_of_latents_that_are_no_numbers_are_left_to_the_loss_to_name():
    CollapseWatch(8, 3).add(codes(-(2**31), 1))
