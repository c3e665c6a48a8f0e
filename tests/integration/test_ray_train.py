"""The training loop in real Ray Train workers: the same losses as in this process, stops, faults and lost workers."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from ray.train.v2._internal import constants

from lapa_ray import cli
from lapa_ray.core.artefact import open_artefact
from lapa_ray.core.config import WandbConfig
from lapa_ray.core.errors import LapaError
from lapa_ray.core.metric_log import read_metrics
from lapa_ray.dataset.stream import Draw
from lapa_ray.models.checkpoint import load_checkpoint
from lapa_ray.models.device import CPU_INSTRUCTIONS
from lapa_ray.models.quantizer import QuantizerConfig
from lapa_ray.models.reconstruction_loss import LossConfig
from lapa_ray.models.vqvae import VqvaeConfig
from lapa_ray.stages import fit_workers, train_vqvae
from lapa_ray.stages.fit_checkpoints import LAST
from lapa_ray.stages.fit_config import FitResources, TrainingConfig
from lapa_ray.stages.fit_loop import FitResult
from lapa_ray.stages.fit_share import Share
from lapa_ray.stages.pair_sources import StreamedPairs, training_pairs
from lapa_ray.stages.vqvae_config import PairConfig, TrainVqvaeConfig
from lapa_ray.stages.vqvae_observer import ObservationConfig
from tests.support.recordings import frames_artefact
from tests.support.toy_task import ToyConfig, ToyTask
from tests.support.toy_training import SlowTask, train

pytestmark = [
    pytest.mark.shared_ray,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]


MICRO = Path(__file__).parents[2] / "tune_configs" / "micro"


def assert_alike(one: FitResult, other: FitResult, one_folder: Path, other_folder: Path) -> None:
    """The same rows, to the rounding that another number of threads brings."""
    assert one == dataclasses.replace(other, figures=pytest.approx(other.figures, rel=1e-4))
    rows, others = (read_metrics(folder / "metrics.jsonl") for folder in (one_folder, other_folder))
    for row, like in zip(rows, others, strict=True):
        assert row.pop("stage") == like.pop("stage")
        assert row == pytest.approx(like, rel=1e-4)


def test_one_worker_gives_the_losses_of_this_process_and_leaves_nothing_else(tmp_path):
    here = train(tmp_path / "here", 0)
    worker = train(tmp_path / "worker", 1)
    assert_alike(worker, here, tmp_path / "worker", tmp_path / "here")
    torch.testing.assert_close(load_checkpoint(tmp_path / "worker" / LAST), load_checkpoint(tmp_path / "here" / LAST))
    assert sorted(p.name for p in (tmp_path / "worker").iterdir()) == ["checkpoints", "metrics.jsonl"]


def test_two_workers_share_the_items_stay_in_step_and_tell_a_fault_once(tmp_path):
    with pytest.raises(LapaError, match=r"^update 4: the loss is nan; .*last.pt keeps the last good state"):
        train(tmp_path, 2, bad_update=4)
    assert load_checkpoint(tmp_path / LAST)["update"] == 3
    result = train(tmp_path, 2)
    assert (result.update, result.num_updates) == (20, 20)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows if "val_loss" not in row] == list(range(1, 21))
    assert min(row["val_loss"] for row in rows if "val_loss" in row) == result.figures["loss"]


class ApartTask(ToyTask):
    """One worker's gradient is no number, and so everyone's; rank 0 alone validates, to no number."""

    def __init__(self, config, share, device) -> None:
        super().__init__(config if share.rank else config.model_copy(update={"bad_gradient": -1}), share, device)

    def validate(self, tick):
        return {"loss": float("nan")}


def test_workers_end_together_where_weights_or_all_validations_are_no_numbers(tmp_path):
    with pytest.raises(LapaError, match=r"^update 6: the weights are no numbers .*last.pt keeps the last good state"):
        train(tmp_path, 2, task=ApartTask, bad_gradient=5)
    state = load_checkpoint(tmp_path / LAST)
    assert state["update"] == 5
    assert all(value.isfinite().all() for value in state["model"].values())
    with pytest.raises(LapaError, match=r"^update 20: no validation had a loss that is a number"):
        train(tmp_path, 2, task=ApartTask)


def kill_after(folder: Path, update: int) -> None:
    """SIGKILL the worker once it has logged `update`."""
    while not any(row["step"] >= update for row in read_metrics(folder / "metrics.jsonl")):
        time.sleep(0.05)
    os.kill(int((folder / "pid").read_text()), signal.SIGKILL)


def test_a_killed_worker_is_replaced_and_the_result_is_the_same(tmp_path):
    unbroken = train(tmp_path / "unbroken", 0)
    folder = tmp_path / "killed"
    folder.mkdir()
    killer = threading.Thread(target=kill_after, args=(folder, 10), daemon=True)
    killer.start()
    replaced = train(folder, 1, task=SlowTask, out=folder)
    killer.join()
    assert_alike(replaced, unbroken, folder, tmp_path / "unbroken")


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from lapa_ray.core.stop import stop_on_signal
from tests.support.toy_training import SlowTask, train
if __name__ == "__main__":
    with stop_on_signal() as stop:
        print(train(Path({folder!r}), 1, task=SlowTask, stop=stop, out=Path({folder!r})))
"""


def test_ctrl_c_reaches_the_workers_as_a_stop_with_a_checkpoint(tmp_path):
    """SIGINT to the whole process group, as a terminal sends it."""
    script = SCRIPT.format(root=str(Path(__file__).parents[2]), folder=str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", script],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while len(read_metrics(tmp_path / "metrics.jsonl")) < 4:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    stopped = load_checkpoint(tmp_path / LAST)["update"]
    assert 0 < stopped < 20
    assert f"FitResult(update={stopped}, num_updates=20" in out
    assert [line for line in err.splitlines() if line and not line.startswith(("toy: ", "Stopping: "))] == []


@pytest.mark.parametrize(
    ("stage", "kind", "role"), [("train_vqvae", "vqvae", "frames"), ("train_world_model", "world_model", "codes")]
)
def test_a_model_trains_in_a_worker_from_a_relative_path(chain, tmp_path, monkeypatch, stage, kind, role):
    monkeypatch.chdir(chain.folder)
    arguments = [f"--config={MICRO / stage}.yaml", f"--{role}={role}", f"--out={tmp_path / kind}"]
    resources = ["--resources.num_workers=1", "--ray.num_cpus=2", "--ray.object_store_mb=100"]
    assert cli.main([stage.replace("_", "-"), *arguments, *resources]) == 0
    by_worker, in_process = (open_artefact(folder / kind, kind).manifest for folder in (tmp_path, chain.folder))
    assert by_worker.identity == in_process.identity
    assert by_worker.figures["val_loss"] == pytest.approx(in_process.figures["val_loss"], rel=0.02)


@pytest.mark.parametrize(
    ("asked", "given", "num_workers", "has_mps", "expected"),
    [
        ("auto", "cpu", 1, True, "mps"),
        ("auto", "cpu", 1, False, "cpu"),
        ("auto", "cpu", 2, True, "cpu"),
        ("auto", "cuda:0", 1, True, "cuda:0"),
        ("cuda", "cuda:0", 2, False, "cuda:0"),
        ("mps", "cpu", 1, True, "mps"),
        ("cpu", "cuda:0", 1, True, "cpu"),
    ],
)
def test_the_device_of_a_worker(monkeypatch, asked, given, num_workers, has_mps, expected):
    """What Ray gives, and MPS, which it knows nothing of."""
    monkeypatch.setattr(fit_workers, "get_device", lambda: torch.device(given))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: has_mps)
    assert fit_workers._device(asked, Share(0, num_workers)) == torch.device(expected)


def test_a_worker_bounds_its_instructions_itself(monkeypatch):
    """Where Ray was up before this process, such as a cluster's, workers inherit nothing of it."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "")  # so that what is set below is undone
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    fit_workers._device("cpu", Share())
    assert os.environ["ONEDNN_MAX_CPU_ISA"] == CPU_INSTRUCTIONS


def test_ray_train_knows_what_the_command_line_asks_of_it(monkeypatch):
    """By names that are none of its documented interface."""
    monkeypatch.setattr(os, "environ", {})
    cli.prepare_libraries()
    asked = {name for name in os.environ if name.startswith("RAY_TRAIN_")}
    assert asked
    assert asked <= {value for value in vars(constants).values() if isinstance(value, str)}


def test_two_workers_stream_pairs_that_do_not_fit_their_memory_and_look_at_some_places(tmp_path):
    dataset = frames_artefact(tmp_path / "frames", [30, 31, 29] * 8)
    config = TrainVqvaeConfig(
        frames=dataset.artefact.path,
        out=tmp_path / "vqvae",
        pairs=PairConfig(max_memory_gb=0.0107),
        model=VqvaeConfig(width=2, code_dim=4, quantizer=QuantizerConfig(codebook_size=8), output="palette", patch=4),
        loss=LossConfig(kind="cross_entropy", common_share=0.3),
        training=TrainingConfig(max_updates=2, batch_size=16, log_period_updates=1),
        resources=FitResources(num_workers=2, device="cpu", cpus_per_worker=0.5, throughput_period_updates=2),
        observe=ObservationConfig(
            num_pairs=2, figures_period_updates=1, histogram_period_updates=2, samples_period_updates=2
        ),
        wandb=WandbConfig(mode="disabled"),
        ray=ToyConfig().ray,
    )
    draw = Draw(8, rank=0, world_size=2)
    assert isinstance(
        training_pairs(dataset, dataset.split(0.9, 0.1)[0], draw, config.pairs.max_memory_gb), StreamedPairs
    )
    artefact = train_vqvae.run(config)
    rows = read_metrics(artefact.path / "metrics.jsonl")
    assert [row["step"] for row in rows if "train_loss" in row] == [1, 2]
    assert [row["step"] for row in rows if "sample_psnr_db" in row] == [1, 2], "the first worker looks, and no other"
    assert [row["step"] for row in rows if "samples_per_s" in row] == [2]
    for name in ("samples/update_0000002.png", "histograms/update_0000002.json"):
        assert (artefact.path / name).exists()
    assert artefact.manifest.figures["num_updates"] == 2
