"""Step sizes over a training, and that the loop sets them."""

from types import SimpleNamespace

import pytest
import torch

from lapa_ray.core.stop import StopRequest
from lapa_ray.models.checkpoint import load_checkpoint
from lapa_ray.stages.fit import run_fit
from lapa_ray.stages.fit_checkpoints import LAST
from lapa_ray.stages.train_world_model import TrainWorldModelConfig, WorldModelTask
from lapa_ray.stages.vqvae_config import TrainVqvaeConfig
from lapa_ray.stages.vqvae_task import VqvaeTask
from tests.support.toy_task import ToyConfig, ToyTask


def task_of(config):
    return SimpleNamespace(_config=config)


def test_the_vqvae_goes_in_a_straight_line_to_the_final_step_size(tmp_path):
    config = TrainVqvaeConfig(out=tmp_path, frames=tmp_path, learning_rate=3e-4, final_learning_rate=1e-4)
    rates = [VqvaeTask.learning_rate(task_of(config), 0, progress) for progress in (0, 0.5, 1)]
    assert rates == pytest.approx([3e-4, 2e-4, 1e-4])


def test_the_vqvae_keeps_its_step_size_by_default(tmp_path):
    config = TrainVqvaeConfig(out=tmp_path, frames=tmp_path)
    assert {VqvaeTask.learning_rate(task_of(config), 7, progress) for progress in (0, 0.5, 1)} == {3e-4}


def test_the_world_model_follows_torchs_step_lr(tmp_path):
    task = task_of(TrainWorldModelConfig(out=tmp_path, codes=tmp_path))
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 30, 0.1)
    for epoch in range(100):
        (expected,) = scheduler.get_last_lr()
        assert WorldModelTask.learning_rate(task, epoch, 0.0) == pytest.approx(expected)
        optimizer.step()
        scheduler.step()


def test_the_loop_sets_the_rate_of_each_update(tmp_path):
    config, asked = ToyConfig(), []

    class Watched(ToyTask):
        def learning_rate(self, epoch: int, progress: float) -> float:
            asked.append((epoch, progress))
            return super().learning_rate(epoch, progress)

    result = run_fit("toy", config, lambda share, device: Watched(config, share, device), tmp_path, StopRequest())
    per_epoch = result.num_updates // 4
    assert asked == [(update // per_epoch, update / result.num_updates) for update in range(result.num_updates)]
    last = 0.01 * (1 - asked[-1][1]) * 0.5 ** asked[-1][0]
    assert load_checkpoint(tmp_path / LAST)["optimizer"]["param_groups"][0]["lr"] == pytest.approx(last)
