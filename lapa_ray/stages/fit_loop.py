"""The one training loop that the VQ-VAE and the world model share: a `Task` in; checkpoints, metrics and a result out.

`Fit` runs a `Task` for some updates, logs, validates, keeps the best and the last checkpoint, and can go on from the
last one to the very losses of a run that was never stopped. Knows neither pictures nor codes, nor who called it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lapa_ray.core.allocator import keep_freed_memory
from lapa_ray.core.artefact import METRICS
from lapa_ray.core.errors import LapaError
from lapa_ray.core.metric_log import MetricLog, forget_rows_after
from lapa_ray.core.seeds import seed_for
from lapa_ray.models.device import check_compiler
from lapa_ray.stages.fit_checkpoints import Checkpoints, Weights
from lapa_ray.stages.fit_config import FitSpec
from lapa_ray.stages.fit_schedule import Schedule, is_due
from lapa_ray.stages.fit_share import Share, added_up, agree, wrap
from lapa_ray.stages.fit_task import Figures, OnValidated, Task
from lapa_ray.stages.throughput import Throughput


@dataclass(frozen=True)
class FitResult:
    """How far a training came, and the figures of its best checkpoint (empty if it never validated)."""

    update: int
    num_updates: int
    figures: Figures
    is_validated: bool = True
    """Whether no validation was broken off."""

    @property
    def finished(self) -> bool:
        """Whether all updates were made, and the last one was validated."""
        return self.update >= self.num_updates and self.is_validated


class _BrokenOffError(Exception):
    """A stop request came during a validation."""


class Fit:
    """One worker's training. Rank 0 writes checkpoints and metrics into `folder`."""

    def __init__(
        self,
        name: str,
        config: FitSpec,
        task: Task,
        folder: Path,
        share: Share,
        on_validated: OnValidated | None = None,
    ) -> None:
        """Raises `LapaError` if there are fewer items than an update takes, the checkpoint in `folder` is damaged, or
        there is no compiler to compile with.
        """
        self._name, self._config, self._task, self._folder, self._share = name, config, task, folder, share
        self._on_validated = on_validated or (lambda _update, _figures: None)
        if config.resources.compile:
            check_compiler()
        self._schedule = Schedule(config.training, config.seed, share, task.num_items)
        self._device = next(task.model.parameters()).device
        self._throughput = Throughput(self._device, self._schedule.samples_per_update)
        if self._device.type == "cpu":
            keep_freed_memory()
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=config.resources.precision == "float16")
        self._checkpoints = Checkpoints(folder, task, self._scaler, share)
        self._standing = self._checkpoints.load()
        self._network = wrap(task.model, share, config.resources)
        self._weights = Weights(task.model, share)
        if share.rank == 0:
            forget_rows_after(folder / METRICS, self.update)

    @property
    def update(self) -> int:
        """Number of updates made."""
        return self._standing.update

    @property
    def num_updates(self) -> int:
        """Number of updates in all."""
        return self._schedule.num_updates

    def __call__(self, should_stop: Callable[[], bool], on_update: Callable[[int, str], None]) -> FitResult:
        """Train to the end, or until rank 0's `should_stop`; a checkpoint holds the state either way.

        Raises `LapaError` for a loss or weights that are no numbers, and where no validation had a loss that is one.
        """
        with ExitStack() as stack:
            log = self._open_log(stack)
            tick = self._ticker(should_stop, on_update)
            self._validate_if_due(log, tick)
            while self.update < self.num_updates and not self._agreed_stop(should_stop):
                with self._throughput.update():
                    loss = self._train_once(log)
                on_update(self.update, f"loss {loss:.4g}")
                if self._keeps_update():
                    self._checkpoints.check(self._weights, self.update)
                self._observe(log)
                self._end_update(log, tick)
        self._checkpoints.check(self._weights, self.update)  # a stop comes after any update
        self._checkpoints.save(self._standing, self.num_updates)
        self._check_validated()
        return FitResult(self.update, self.num_updates, self._standing.best_figures, not self._standing.validation_due)

    def _train_once(self, log: MetricLog | None) -> float:
        # Seeded anew each time, so that a resumed run draws what an unbroken one would.
        torch.manual_seed(seed_for(self._config.seed, "update", self.update, self._share.rank))
        self._task.model.train()
        self._task.optimizer.zero_grad(set_to_none=True)
        means: Figures = {}
        for number in range(self._config.training.accumulate_batches):
            for name, part in self._backward(number).items():
                means[name] = means.get(name, 0.0) + part / self._config.training.accumulate_batches
        self._set_learning_rate()
        self._scaler.step(self._task.optimizer)
        self._scaler.update()
        self._standing.update += 1
        if self.update % self._config.training.log_period_updates == 0:
            _write(log, self.update, means)
        return means["train_loss"]

    def _backward(self, number: int) -> Figures:
        """Add the gradients of the `number`-th batch of this update; its loss and what it is made of."""
        accumulate = self._config.training.accumulate_batches
        is_last = number == accumulate - 1
        with added_up(self._network, is_last=is_last):
            with _autocast(self._config.resources.precision, self._device):
                loss, parts = self._task.loss(self._network, self._schedule.turn(self.update, number))
            value = float(loss.detach())
            self._check_finite(value)
            self._scaler.scale(loss / accumulate).backward()
        return {"train_loss": value, **{name: float(part) for name, part in parts.items()}}

    def _set_learning_rate(self) -> None:
        epoch = self.update // self._schedule.updates_per_epoch
        rate = self._task.learning_rate(epoch, self.update / self.num_updates)
        for group in self._task.optimizer.param_groups:
            group["lr"] = rate

    def _observe(self, log: MetricLog | None) -> None:
        """Before a checkpoint is written, so that what it goes on from has been looked at."""
        if log is None:
            return
        self._task.observe(self.update, log, self._folder)
        if is_due(self.update, self._config.resources.throughput_period_updates):
            log.write(self.update, self._throughput.take())

    def _keeps_update(self) -> bool:
        """Whether a validation or a checkpoint follows this update."""
        resources = self._config.resources
        periods = resources.checkpoint_period_updates, resources.kept_checkpoint_period_updates
        return self._schedule.has_validation(self.update) or any(is_due(self.update, period) for period in periods)

    def _end_update(self, log: MetricLog | None, tick: Callable[[float], None]) -> None:
        if self._share.rank == 0 and is_due(self.update, self._config.resources.kept_checkpoint_period_updates):
            self._checkpoints.keep(self.update)
        if self._schedule.has_validation(self.update):
            self._standing.validation_due = self._share.rank == 0
            self._validate_if_due(log, tick)
            self._checkpoints.save(self._standing, self.num_updates)
        elif is_due(self.update, self._config.resources.checkpoint_period_updates):
            self._checkpoints.save(self._standing, self.num_updates)

    def _ticker(
        self, should_stop: Callable[[], bool], on_update: Callable[[int, str], None]
    ) -> Callable[[float], None]:
        """A validation can take minutes: it tells how far it is, and gives way to a stop request."""

        def tick(done: float) -> None:
            on_update(self.update, f"validation {done:.0%}" if done < 1 else "validated")
            if done < 1 and should_stop():
                raise _BrokenOffError

        return tick

    def _validate_if_due(self, log: MetricLog | None, tick: Callable[[float], None]) -> None:
        """What was broken off is made up for when the run is resumed."""
        if not self._standing.validation_due:
            return
        self._task.model.eval()
        try:
            figures = self._task.validate(tick)
        except _BrokenOffError:
            return
        self._standing.validation_due = False
        _write(log, self.update, {f"val_{name}": value for name, value in figures.items()})
        loss = figures["loss"] if math.isfinite(figures["loss"]) else math.inf
        if loss < self._standing.best or not self._standing.best_figures:
            self._standing.best, self._standing.best_figures = loss, figures
            self._checkpoints.save_best(self.update, figures)
        if self.update < self.num_updates:  # whoever hears of it may end the training, which is over then
            self._on_validated(self.update, figures)

    def _check_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            kept = self._checkpoints.kept
            raise LapaError(f"update {self.update}: the loss is {loss}; {kept}. Try a lower --learning_rate.")

    def _check_validated(self) -> None:
        """Rank 0 validates; all raise, so that none waits for the others."""
        is_over = self.update >= self.num_updates and not self._standing.validation_due
        has_failed = self._share.rank == 0 and is_over and math.isinf(self._standing.best)
        if agree(float(has_failed), self._share, "max"):
            raise LapaError(
                f"update {self.update}: no validation had a loss that is a number; try a lower --learning_rate in a "
                "new --out."
            )

    def _open_log(self, stack: ExitStack) -> MetricLog | None:
        if self._share.rank:
            return None
        run_config = self._config.model_dump(mode="json")
        return stack.enter_context(MetricLog(self._folder / METRICS, self._name, self._config.wandb, run_config))

    def _agreed_stop(self, should_stop: Callable[[], bool]) -> bool:
        """Rank 0 looks; all follow, so that none waits for a gradient that never comes."""
        return bool(agree(float(self._share.rank == 0 and should_stop()), self._share, "max"))


def _autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bfloat16" else torch.float16)


def _write(log: MetricLog | None, step: int, values: Figures) -> None:
    if log is not None:
        log.write(step, values)
