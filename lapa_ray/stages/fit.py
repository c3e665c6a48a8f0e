"""The one training loop that the VQ-VAE and the world model share.

`Fit` runs a `Task` for some updates, logs, validates, keeps the best and the last checkpoint, and can go on from the
last one to the very losses of a run that was never stopped. `run_fit` runs it in this process (no workers) or in Ray
Train workers. Knows neither pictures nor codes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lapa_ray.core.allocator import keep_freed_memory
from lapa_ray.core.artefact import METRICS
from lapa_ray.core.errors import LapaError
from lapa_ray.core.metric_log import MetricLog, forget_rows_after
from lapa_ray.core.progress import Progress
from lapa_ray.core.seeds import generator_for, seed_for
from lapa_ray.core.stop import StopRequest
from lapa_ray.models.checkpoint import load_checkpoint, save_checkpoint
from lapa_ray.models.device import check_compiler, resolve_device
from lapa_ray.stages.fit_config import FitSpec, TrainingConfig
from lapa_ray.stages.fit_share import Share, added_up, agree, wrap
from lapa_ray.stages.fit_task import Figures, OnValidated, Task, TaskFactory, Turn
from lapa_ray.stages.throughput import Throughput

LAST, BEST = Path("checkpoints", "last.pt"), Path("checkpoints", "best.pt")
KEPT = "update_{:07d}"
"""Name of what is kept of an update, but for its suffix."""


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


def run_fit(
    name: str,
    config: FitSpec,
    factory: TaskFactory,
    folder: Path,
    stop: StopRequest,
    on_validated: OnValidated | None = None,
) -> FitResult:
    """Train in this process or in Ray Train workers, as `config.resources` says; go on from `folder` if it can.

    `on_validated` is for trainings in this process. Raises `LapaError` for a loss that is not a number, a batch larger
    than the data, a device that is not there.
    """
    if config.resources.num_workers:
        from lapa_ray.stages.fit_workers import run_in_workers

        return run_in_workers(name, config, factory, folder, stop)
    task = factory(Share(), resolve_device(config.resources.device))
    fit = Fit(name, config, task, folder, Share(), on_validated)
    with Progress(name, fit.num_updates, "updates", initial=fit.update) as progress:
        return fit(lambda: bool(stop), progress.advance_to)


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
        self._batch = batch_size(config.training, share)
        num_items = int(agree(task.num_items, share, "min"))  # every worker makes as many updates an epoch
        self._updates_per_epoch = num_items // (self._batch * config.training.accumulate_batches)
        if not self._updates_per_epoch:
            raise _too_few(num_items, self._batch, config.training)
        self.num_updates = self._updates_per_epoch * config.training.num_epochs
        self.num_updates = min(self.num_updates, config.training.max_updates or self.num_updates)
        self.update, self._best = 0, math.inf
        self._best_figures: Figures = {}
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))
        self._validation_due = False
        self._device = next(task.model.parameters()).device
        samples = self._batch * share.world_size * config.training.accumulate_batches
        self._throughput = Throughput(self._device, samples)
        if self._device.type == "cpu":
            keep_freed_memory()
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=config.resources.precision == "float16")
        self._load()

    def __call__(self, should_stop: Callable[[], bool], on_update: Callable[[int, str], None]) -> FitResult:
        """Train to the end, or until rank 0's `should_stop`; a checkpoint holds the state either way."""
        network = wrap(self._task.model, self._share, self._config.resources)
        with ExitStack() as stack:
            log = self._open_log(stack)
            tick = self._ticker(should_stop, on_update)
            self._validate_if_due(log, tick)
            while self.update < self.num_updates and not self._agreed_stop(should_stop):
                with self._throughput.update():
                    loss = self._train_once(network, log)
                on_update(self.update, f"loss {loss:.4g}")
                self._observe(log)
                self._end_update(log, tick)
        self._save()
        return FitResult(self.update, self.num_updates, self._best_figures, not self._validation_due)

    def _train_once(self, network: nn.Module, log: MetricLog | None) -> float:
        # Seeded anew each time, so that a resumed run draws what an unbroken one would.
        torch.manual_seed(seed_for(self._config.seed, "update", self.update, self._share.rank))
        self._task.model.train()
        self._task.optimizer.zero_grad(set_to_none=True)
        means: Figures = {}
        for number in range(self._config.training.accumulate_batches):
            for name, part in self._backward(network, number).items():
                means[name] = means.get(name, 0.0) + part / self._config.training.accumulate_batches
        self._set_learning_rate()
        self._scaler.step(self._task.optimizer)
        self._scaler.update()
        self.update += 1
        if self.update % self._config.training.log_period_updates == 0:
            _write(log, self.update, means)
        return means["train_loss"]

    def _backward(self, network: nn.Module, number: int) -> Figures:
        """Add the gradients of the `number`-th batch of this update; its loss and what it is made of."""
        accumulate = self._config.training.accumulate_batches
        is_last = number == accumulate - 1
        with added_up(network, is_last=is_last):
            with _autocast(self._config.resources.precision, self._device):
                loss, parts = self._task.loss(network, self._turn(number))
            value = float(loss.detach())
            self._check_finite(value)
            self._scaler.scale(loss / accumulate).backward()
        return {"train_loss": value, **{name: float(part) for name, part in parts.items()}}

    def _set_learning_rate(self) -> None:
        rate = self._task.learning_rate(self.update // self._updates_per_epoch, self.update / self.num_updates)
        for group in self._task.optimizer.param_groups:
            group["lr"] = rate

    def _observe(self, log: MetricLog | None) -> None:
        """Before a checkpoint is written, so that what it goes on from has been looked at."""
        if log is None:
            return
        self._task.observe(self.update, log, self._folder)
        if is_due(self.update, self._config.resources.throughput_period_updates):
            log.write(self.update, self._throughput.take())

    def _end_update(self, log: MetricLog | None, tick: Callable[[float], None]) -> None:
        epoch, rest = divmod(self.update, self._updates_per_epoch)
        is_last_of_period = rest == 0 and epoch % self._config.training.validation_period_epochs == 0
        if self._share.rank == 0 and is_due(self.update, self._config.resources.kept_checkpoint_period_updates):
            state = {"model": self._task.model.state_dict(), "update": self.update}
            save_checkpoint(self._folder / LAST.with_stem(KEPT.format(self.update)), state)
        if is_last_of_period or self.update == self.num_updates:
            self._validation_due = self._share.rank == 0
            self._validate_if_due(log, tick)
            self._save()
        elif self.update % self._config.resources.checkpoint_period_updates == 0:
            self._save()

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
        if not self._validation_due:
            return
        self._task.model.eval()
        try:
            figures = self._task.validate(tick)
        except _BrokenOffError:
            return
        self._validation_due = False
        _write(log, self.update, {f"val_{name}": value for name, value in figures.items()})
        loss = figures["loss"] if math.isfinite(figures["loss"]) else math.inf
        if loss < self._best or not self._best_figures:
            self._best, self._best_figures = loss, figures
            state = {"model": self._task.model.state_dict(), "update": self.update, "figures": figures}
            save_checkpoint(self._folder / BEST, state)
        if self.update < self.num_updates:  # whoever hears of it may end the training, which is over then
            self._on_validated(self.update, figures)

    def _turn(self, number: int) -> Turn:
        """The `number`-th batch of this update; the epoch's number alone decides its order."""
        epoch, place = divmod(self.update, self._updates_per_epoch)
        batch = place * self._config.training.accumulate_batches + number
        if self._order[0] != epoch:
            generator = generator_for(self._config.seed, "epoch", epoch, self._share.rank)
            self._order = epoch, generator.permutation(self._task.num_items)
        return Turn(epoch, batch, self._order[1][batch * self._batch : (batch + 1) * self._batch])

    def _check_finite(self, loss: float) -> None:
        if math.isfinite(loss):
            return
        kept = f"{self._folder / LAST} keeps the last good state" if (self._folder / LAST).exists() else "none is kept"
        raise LapaError(f"update {self.update}: the loss is {loss}; {kept}. Try a lower --learning_rate.")

    def _save(self) -> None:
        if self._share.rank:
            return
        state = {
            "model": self._task.model.state_dict(),
            "optimizer": self._task.optimizer.state_dict(),
            "update": self.update,
            "num_updates": self.num_updates,
            "best": self._best,
            "best_figures": self._best_figures,
            "validation_due": self._validation_due,
            "scaler": self._scaler.state_dict(),
        }
        save_checkpoint(self._folder / LAST, state)

    def _load(self) -> None:
        if (self._folder / LAST).exists():
            state = load_checkpoint(self._folder / LAST)
            self._task.model.load_state_dict(state["model"])
            self._task.optimizer.load_state_dict(state["optimizer"])
            self.update, self._best, self._best_figures = state["update"], state["best"], state["best_figures"]
            self._validation_due = state["validation_due"] and self._share.rank == 0
            if state.get("scaler"):  # none of another precision
                self._scaler.load_state_dict(state["scaler"])
        if self._share.rank == 0:
            forget_rows_after(self._folder / METRICS, self.update)

    def _open_log(self, stack: ExitStack) -> MetricLog | None:
        if self._share.rank:
            return None
        run_config = self._config.model_dump(mode="json")
        return stack.enter_context(MetricLog(self._folder / METRICS, self._name, self._config.wandb, run_config))

    def _agreed_stop(self, should_stop: Callable[[], bool]) -> bool:
        """Rank 0 looks; all follow, so that none waits for a gradient that never comes."""
        return bool(agree(float(self._share.rank == 0 and should_stop()), self._share, "max"))


def is_due(update: int, period_updates: int) -> bool:
    """Whether a period ends after `update`; one of 0 never does."""
    return period_updates > 0 and update % period_updates == 0


def _too_few(num_items: int, batch: int, training: TrainingConfig) -> LapaError:
    """Less than one update's items in a worker's share: names the option that asks for more than there is."""
    if batch > num_items:
        return LapaError(
            f"--training.batch_size {training.batch_size}: larger than the training set ({num_items} items a worker); "
            "lower it, or record more."
        )
    return LapaError(
        f"--training.accumulate_batches {training.accumulate_batches}: so many batches of {batch} are larger than the "
        f"training set ({num_items} items a worker); lower it or --training.batch_size, or record more."
    )


def batch_size(training: TrainingConfig, share: Share) -> int:
    """Items of an update that each worker takes."""
    return max(1, training.batch_size // share.world_size)


def _autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bfloat16" else torch.float16)


def _write(log: MetricLog | None, step: int, values: Figures) -> None:
    if log is not None:
        log.write(step, values)
