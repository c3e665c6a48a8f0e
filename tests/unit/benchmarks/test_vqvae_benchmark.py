"""The VQ-VAE benchmark: its figures of made times, that both networks are one, and that the sides make real updates."""

import json
import subprocess
import sys
from contextlib import ExitStack

import numpy as np
import psutil
import pytest
import torch

from benchmarks import _vqvae_loops, _vqvae_sides
from benchmarks._ray_processes import RayProcesses
from benchmarks._vqvae_loops import bare, in_a_loop
from benchmarks._vqvae_sides import (
    BATCH_SIZE,
    WARM_UP,
    Ours,
    PlainLoop,
    PlainVqvae,
    config_of,
    flops_per_sample,
    one_batch,
    samples_per_s,
    seconds_per_update,
)
from benchmarks.vqvae import Work, ray_row, rows
from lapa_ray.models.device import CPU_INSTRUCTIONS
from lapa_ray.models.vqvae import Vqvae, VqvaeConfig
from tests.support.recordings import frames_artefact


def test_the_first_updates_of_a_round_do_not_count():
    times = [*np.linspace(0, 100, WARM_UP).tolist(), 100.5, 101.0, 103.0]
    assert samples_per_s(times) == pytest.approx(3 * BATCH_SIZE / 3)
    assert seconds_per_update(times) == pytest.approx(1.0)


def test_ratios_are_medians_over_rounds_and_overheads_their_excess():
    rates = {
        "ours": [30.0, 40.0, 90.0],
        "plain": [20.0, 20.0, 30.0],
        "plain_channels_last": [30.0, 20.0, 90.0],
        "floor": [60.0, 50.0, 100.0],
        "products": [320.0, 320.0, 640.0],
    }
    work = Work(sample=3e9, product=BATCH_SIZE * 1e9, device="cpu")
    seconds = {"ray_train": [1.1, 2.2, 3.0], "fit": [1.0, 2.2, 3.0], "bare": [1.0, 2.0, 3.0]}
    told = {row.key: row.value for row in rows(rates, seconds, work)}
    compiled = {row.key: row.value for row in rows(rates | {"ours_compiled": [60.0, 40.0, 60.0]}, seconds, work)}
    assert compiled == pytest.approx(told | {"compiled_vs_plain_loop": 2.0, "compiled_vs_ours": 1.0})
    assert told == pytest.approx(
        {
            "vs_plain_loop": 2.0,  # 1.5, 2, 3
            "vs_plain_loop_channels_last": 1.0,  # 1, 2, 1
            "vs_floor": 0.8,  # 0.5, 0.8, 0.9
            "samples_per_s": 40.0,
            "share_of_products": 0.375,  # 30, 40, 90 samples of 3 to 320, 320, 640 of 1
            "train_overhead": 0.1,
            "loop_overhead": 0.0,
        }
    )


def test_what_rays_processes_take_is_told_by_kind():
    rounds = [{"raylet": 0.02, "IDLE": 0.01, "gcs_server": 0.0004}, {"raylet": 0.03}, {"raylet": 0.04, "IDLE": 0.03}]
    row = ray_row(rounds)
    assert row.value == pytest.approx(0.0304)
    assert row.of == "of a core: raylet 0.030, IDLE 0.010"


BUSY = "import sys; sys.stdin.readline() and sum(range(10**7)); print(flush=True); sys.stdin.readline()"


def test_the_worker_itself_is_none_of_the_processes_around_it():
    with ExitStack() as stack:
        busy, worker = (stack.enter_context(_process()) for _ in range(2))
        around = RayProcesses(psutil.Process(worker.pid), psutil.Process(busy.pid))
        beside = RayProcesses(psutil.Process(busy.pid), psutil.Process(busy.pid))
        busy.stdin.write("\n")
        busy.stdin.flush()
        busy.stdout.readline()
        shares = around.shares()
        assert list(shares) == [psutil.Process(busy.pid).name()]
        assert all(share > 0 for share in shares.values())
        assert beside.shares() == {}


def _process() -> subprocess.Popen:
    """Waits for a line, is busy, tells so, waits again."""
    return subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_the_bar_is_that_of_the_device():
    rates = {name: [1.0] for name in ("ours", "plain", "plain_channels_last", "floor", "products")}
    seconds = {name: [1.0] for name in ("ray_train", "fit", "bare")}
    bars = {row.key: row.bar for row in rows(rates, seconds, Work(1.0, 1.0, "cuda"))}
    assert bars["vs_plain_loop"] == "≥ 5"


def test_operations_are_those_of_the_convolutions():
    """Twice the width: four times the operations, but for the first and the last convolution."""
    narrow, wide = (flops_per_sample(width) for width in (4, 8))
    assert 3 < wide / narrow < 4


def test_the_plain_network_is_ours_in_another_layout():
    config = VqvaeConfig(width=2)
    torch.manual_seed(0)
    ours = Vqvae(config)
    torch.manual_seed(0)
    plain = PlainVqvae(config)
    assert plain.encoder[3].weight.is_contiguous()
    assert not ours.encoder[3].weight.is_contiguous()
    frame_t, frame_t1 = torch.rand(2, 2, 3, 210, 160).mul(2).sub(1)
    picture, loss = plain(frame_t, frame_t1)
    output = ours(frame_t, frame_t1)
    torch.testing.assert_close(picture, ours.picture(output), rtol=0, atol=1e-4)
    torch.testing.assert_close(loss, output.quantizer_loss)


def test_the_sides_make_updates(tmp_path, monkeypatch):
    """Ours goes on where its last round ended."""
    for module in (_vqvae_sides, _vqvae_loops):
        monkeypatch.setattr(module, "BATCH_SIZE", 2)
    monkeypatch.setattr(_vqvae_sides, "WARM_UP", 1)
    frames = frames_artefact(tmp_path / "frames", [6, 6]).artefact.path
    ours = Ours(config_of(frames, tmp_path / "ours", 2))
    assert [len(ours.times(1)) for _ in range(2)] == [2, 2]
    assert ours._fit.update == 4
    plain = PlainLoop(one_batch(), 2, torch.device("cpu"), channels_last=False)
    before = plain.model.encoder[0].weight.detach().clone()
    assert len(plain.times(1)) == 2
    assert (plain.model.encoder[0].weight != before).any()
    config = config_of(frames, tmp_path / "timed", 2, num_updates=2)
    for times in (in_a_loop(config), bare(config, 2)):
        assert len(times) == 2
        assert times == sorted(times)


SETTINGS = """
import json, os, sys
from pathlib import Path
from benchmarks import _vqvae_side
side = _vqvae_side.plain_side if sys.argv[1] in _vqvae_side.PLAIN else _vqvae_side.our_side
side(sys.argv[1], Path(sys.argv[2]), 2)
print(json.dumps([os.environ.get(name) for name in ("OMP_WAIT_POLICY", "ONEDNN_MAX_CPU_ISA")]))
"""


@pytest.mark.parametrize("name", ["plain", "floor"])
def test_a_plain_side_has_nothing_of_what_ours_sets_for_its_process(tmp_path, monkeypatch, name):
    frames_artefact(tmp_path / "steps", [6, 6])
    for variable in ("OMP_WAIT_POLICY", "ONEDNN_MAX_CPU_ISA"):
        monkeypatch.delenv(variable, raising=False)
    command = [sys.executable, "-c", SETTINGS, name, str(tmp_path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    expected = [None, None] if name == "plain" else ["PASSIVE", CPU_INSTRUCTIONS]
    assert json.loads(done.stdout) == expected
