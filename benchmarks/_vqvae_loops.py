"""Trainings of the VQ-VAE from anew, to tell what surrounds an update: Ray Train, our loop alone, a bare loop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks._ray_processes import RayProcesses
from benchmarks._vqvae_sides import BATCH_SIZE, NUM_THREADS, WARM_UP, config_of
from lapa_ray.core.files import write_json
from lapa_ray.core.metric_log import MetricLog
from lapa_ray.core.stop import StopRequest
from lapa_ray.models.device import resolve_device
from lapa_ray.stages.fit import run_fit
from lapa_ray.stages.fit_share import Share
from lapa_ray.stages.fit_task import Figures, Turn
from lapa_ray.stages.vqvae_config import TrainVqvaeConfig
from lapa_ray.stages.vqvae_task import VqvaeTask

TIMES, RAY_SHARES = "times.json", "ray_shares.json"
LOOPS = {"ray_train": 1, "fit": 0, "bare": 0}
"""Number of Ray Train workers."""


def ray_shares(folder: Path, num_rounds: int) -> list[dict[str, float]]:
    """What Ray's processes took in each round of its side, by kind."""
    paths = [folder / f"ray_train_{number}" / RAY_SHARES for number in range(1, num_rounds + 1)]
    return [json.loads(path.read_text()) for path in paths]


class FromAnew:
    """A side of which every round is a training of its own; Ray is up while one of its own trains, and no longer."""

    def __init__(self, name: str, folder: Path, width: int) -> None:
        self._name, self._folder, self._width, self._rounds = name, folder, width, 0

    def times(self, num_updates: int) -> list[float]:
        """When each of so many updates ended, after the warm-up's."""
        out, last = self._folder / f"{self._name}_{self._rounds}", WARM_UP + num_updates
        self._rounds += 1
        config = config_of(self._folder / "steps", out, self._width, LOOPS[self._name], last)
        return bare(config, last) if self._name == "bare" else in_a_loop(config)


class TimedTask(VqvaeTask):
    """Leaves the times at which its updates ended beside what it makes."""

    def __init__(self, config: TrainVqvaeConfig, share: Share, device: torch.device) -> None:
        torch.set_num_threads(NUM_THREADS)  # whatever Ray makes of a worker
        super().__init__(config, share, device)
        self._times: list[float] = []
        self._around: RayProcesses | None = None

    def observe(self, update: int, log: MetricLog, folder: Path) -> None:
        """Note the time; in a worker, what Ray's processes take meanwhile."""
        super().observe(update, log, folder)
        if update == WARM_UP and self._config.resources.num_workers:
            self._around = RayProcesses.here()  # before the time: it takes some itself
        self._times.append(time.perf_counter())
        if update == self._config.training.max_updates:
            write_json(folder / TIMES, self._times)
            if self._around is not None:
                write_json(folder / RAY_SHARES, self._around.shares())

    def validate(self, tick: Callable[[float], None]) -> Figures:  # noqa: ARG002
        """Nothing: updates alone are timed, and the last would be followed by the whole validation split."""
        return {"loss": 0.0}


def in_a_loop(config: TrainVqvaeConfig) -> list[float]:
    """When updates ended of a new training by our loop: in this process, or in as many workers as `config` says."""
    config.out.mkdir(parents=True)
    run_fit("benchmark", config, partial(TimedTask, config), config.out, StopRequest())
    times: list[float] = json.loads((config.out / TIMES).read_text())
    return times


def bare(config: TrainVqvaeConfig, num_updates: int) -> list[float]:
    """When updates ended of a bare loop over the same batches: no log, no checkpoint, no look for a stop."""
    task = VqvaeTask(config, Share(), resolve_device(config.resources.device))
    order, times = np.random.default_rng(0).permutation(task.num_items), []
    task.model.train()
    for update in range(num_updates):
        items = np.take(order, range(update * BATCH_SIZE, (update + 1) * BATCH_SIZE), mode="wrap")
        task.optimizer.zero_grad(set_to_none=True)
        loss, _ = task.loss(task.model, Turn(0, update, items))
        float(loss.detach())
        loss.backward()
        task.optimizer.step()
        times.append(time.perf_counter())
    return times
