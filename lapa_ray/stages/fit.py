"""The one training loop that the VQ-VAE and the world model share.

A `Task` holds model, optimiser and data; `fit` runs it for some epochs, logs, validates, keeps the best and the last
checkpoint and can go on from the last one to the same losses. `run_fit` runs it in this process (no workers) or in Ray
Train workers. Rank 0 writes into the artefact directory, which on a cluster must be shared by its nodes.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from lapa_ray.actors.cluster import ray_session, require_resources
from lapa_ray.core.config import Config, Device, RayConfig, WandbConfig
from lapa_ray.core.errors import LapaError
from lapa_ray.core.metric_log import MetricLog, read_metrics
from lapa_ray.core.progress import Progress
from lapa_ray.core.seeds import generator_for, seed_for
from lapa_ray.core.stop import StopRequest
from lapa_ray.models.checkpoint import load_checkpoint, save_checkpoint
from lapa_ray.models.device import resolve_device

STOP_FILE = ".stop"
Figures = dict[str, float]


class TrainingConfig(Config):
    """How long and in what portions."""

    num_epochs: PositiveInt = 100
    """Passes over the training items."""
    batch_size: PositiveInt = 32
    """Items an update, over all workers."""
    log_period_updates: PositiveInt = 20
    """Updates between rows in the metric log."""
    validation_period_epochs: PositiveInt = 1
    """Epochs between validations; the last epoch is always followed by one."""


class FitResources(Config):
    """Where a training runs; none of it changes what is learnt but for the order of additions."""

    part_of_identity = False

    num_workers: int = Field(1, ge=0)
    """Ray Train workers; 0 trains in this process, without Ray."""
    device: Device = "auto"
    """auto is CUDA, else MPS, else CPU."""
    cpus_per_worker: float = Field(1.0, gt=0)
    """CPU cores that a worker reserves."""
    checkpoint_period_updates: PositiveInt = 200
    """Updates between checkpoints to resume from."""


@dataclass(frozen=True)
class Share:
    """Which of the workers this is."""

    rank: int = 0
    world_size: int = 1


class Task(Protocol):
    """What is trained: built in the worker that trains it."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None
    """Stepped after each epoch."""

    @property
    def num_items(self) -> int:
        """Training items of this worker."""

    def loss(self, network: nn.Module, items: NDArray[np.int64]) -> tuple[Tensor, dict[str, Tensor]]:
        """Training loss of `items` by `network` (the model, perhaps wrapped), and what to log of it."""

    def validate(self) -> Figures:
        """Figures over the whole validation split, `loss` among them (less is better)."""


class FitSpec(Protocol):
    """What `run_fit` needs of a stage's config."""

    @property
    def seed(self) -> int: ...
    @property
    def training(self) -> TrainingConfig: ...
    @property
    def resources(self) -> FitResources: ...
    @property
    def ray(self) -> RayConfig: ...
    @property
    def wandb(self) -> WandbConfig: ...


TaskFactory = Callable[[Share, torch.device], Task]


@dataclass(frozen=True)
class FitResult:
    """How far a training came, and the figures of its best checkpoint (empty if it never validated)."""

    update: int
    num_updates: int
    figures: Figures

    @property
    def finished(self) -> bool:
        """Whether all updates were made."""
        return self.update >= self.num_updates


def run_fit(name: str, config: FitSpec, factory: TaskFactory, folder: Path, stop: StopRequest) -> FitResult:
    """Train in this process or in Ray Train workers, as `config.resources` says; go on from `folder` if it can.

    Raises `LapaError` for a loss that is not a number, a batch larger than the data, a device that is not there.
    """
    (folder / STOP_FILE).unlink(missing_ok=True)
    if config.resources.num_workers == 0:
        run = Fit(name, config, factory(Share(), resolve_device(config.resources.device)), folder, Share())
        with run.progress() as progress:
            return run(lambda: bool(stop), lambda update, note: progress.advance_to(update, note))
    with ray_session(config.ray):
        _run_in_workers(name, config, factory, folder, stop)
    return _result_in(folder)


class Fit:
    """One worker's training."""

    def __init__(self, name: str, config: FitSpec, task: Task, folder: Path, share: Share) -> None:
        self._name, self._config, self._task, self._folder, self._share = name, config, task, folder, share
        self._batch = max(1, config.training.batch_size // share.world_size)
        num_items = int(_agree(task.num_items, share, dist.ReduceOp.MIN if share.world_size > 1 else None))
        self._updates_per_epoch = num_items // self._batch
        if not self._updates_per_epoch:
            raise LapaError(
                f"training.batch_size {config.training.batch_size}: larger than the training set "
                f"({num_items} items a worker); lower it, or record more."
            )
        self.num_updates = self._updates_per_epoch * config.training.num_epochs
        self._update, self._best = 0, math.inf
        self._best_figures: Figures = {}
        self._load()

    def progress(self) -> Progress:
        """A progress bar for all updates."""
        return Progress(self._name, self.num_updates, "updates", initial=self._update)

    def __call__(self, should_stop: Callable[[], bool], on_update: Callable[[int, str], None]) -> FitResult:
        """Train to the end, or until `should_stop`; a checkpoint holds the state either way."""
        network = _wrap(self._task.model, self._share)
        with ExitStack() as stack:
            log = self._open_log(stack)
            while self._update < self.num_updates and not self._agreed_stop(should_stop):
                self._train_once(network, log, on_update)
        self._save()
        return FitResult(self._update, self.num_updates, self._best_figures)

    def _train_once(self, network: nn.Module, log: MetricLog | None, on_update: Callable[[int, str], None]) -> None:
        epoch, offset = divmod(self._update, self._updates_per_epoch)
        torch.manual_seed(seed_for(self._config.seed, "update", self._update, self._share.rank))
        self._task.model.train()
        loss, parts = self._task.loss(network, self._items(epoch, offset))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise LapaError(
                f"update {self._update}: the loss is {value}; {self._folder / 'checkpoints'} keeps the last good "
                "state. Try a lower learning_rate."
            )
        self._task.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._task.optimizer.step()
        self._update += 1
        if self._update % self._config.training.log_period_updates == 0:
            _write(log, self._update, {"train_loss": value, **{name: float(part) for name, part in parts.items()}})
        on_update(self._update, f"loss {value:.4g}")
        if self._update % self._updates_per_epoch == 0:
            self._end_epoch(epoch, log)
        if self._update % self._config.resources.checkpoint_period_updates == 0:
            self._save()

    def _items(self, epoch: int, offset: int) -> NDArray[np.int64]:
        """The batch at `offset` of the epoch's order, which its number alone decides: a resumed run draws the same."""
        order = generator_for(self._config.seed, "epoch", epoch, self._share.rank).permutation(self._task.num_items)
        return order[offset * self._batch : (offset + 1) * self._batch]

    def _end_epoch(self, epoch: int, log: MetricLog | None) -> None:
        if self._task.scheduler is not None:
            self._task.scheduler.step()
        is_last = epoch + 1 == self._config.training.num_epochs
        if self._share.rank or ((epoch + 1) % self._config.training.validation_period_epochs and not is_last):
            return
        self._task.model.eval()
        figures = self._task.validate()
        _write(log, self._update, {f"val_{name}": value for name, value in figures.items()} | {"epoch": epoch + 1})
        if figures["loss"] < self._best or not self._best_figures:
            self._best, self._best_figures = figures["loss"], figures
            state = {"model": self._task.model.state_dict(), "update": self._update, "figures": figures}
            save_checkpoint(self._folder / "checkpoints" / "best.pt", state)
        self._save()

    def _save(self) -> None:
        if self._share.rank:
            return
        scheduler = self._task.scheduler
        state = {
            "model": self._task.model.state_dict(),
            "optimizer": self._task.optimizer.state_dict(),
            "scheduler": scheduler.state_dict() if scheduler is not None else {},
            "update": self._update,
            "num_updates": self.num_updates,
            "best": self._best,
            "best_figures": self._best_figures,
        }
        save_checkpoint(self._folder / "checkpoints" / "last.pt", state)

    def _load(self) -> None:
        path = self._folder / "checkpoints" / "last.pt"
        if not path.exists():
            return
        state = load_checkpoint(path)
        self._task.model.load_state_dict(state["model"])
        self._task.optimizer.load_state_dict(state["optimizer"])
        if self._task.scheduler is not None:
            self._task.scheduler.load_state_dict(state["scheduler"])
        self._update, self._best, self._best_figures = state["update"], state["best"], state["best_figures"]

    def _open_log(self, stack: ExitStack) -> MetricLog | None:
        if self._share.rank:
            return None
        return stack.enter_context(MetricLog(self._folder / "metrics.jsonl", self._name, self._config.wandb))

    def _agreed_stop(self, should_stop: Callable[[], bool]) -> bool:
        """Rank 0 looks; all follow, so that none waits for a gradient that never comes."""
        wish = float(self._share.rank == 0 and should_stop())
        return bool(_agree(wish, self._share, dist.ReduceOp.MAX if self._share.world_size > 1 else None))


def _run_in_workers(name: str, config: FitSpec, factory: TaskFactory, folder: Path, stop: StopRequest) -> None:
    """Ray Train in a thread; this one waits, shows the progress and turns a stop request into the stop file."""
    resources = config.resources
    require_resources(cpus=resources.num_workers * resources.cpus_per_worker, gpus=_gpus(resources))
    failures: list[BaseException] = []

    def train() -> None:
        try:
            _trainer(name, config, factory, folder).fit()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=train, daemon=True)
    thread.start()
    metrics = folder / "metrics.jsonl"
    progress: Progress | None = None
    with ExitStack() as stack:
        while thread.is_alive():
            thread.join(timeout=0.5)
            if stop and not (folder / STOP_FILE).exists():
                (folder / STOP_FILE).touch()
            rows = read_metrics(metrics) if time.monotonic() % 2 < 0.5 else []
            if rows and "num_updates" in rows[0]:
                progress = progress or stack.enter_context(Progress(name, int(rows[0]["num_updates"]), "updates"))
                progress.advance_to(int(rows[-1]["step"]))
    if failures:
        raise _named(failures[0]) from failures[0]


def _trainer(name: str, config: FitSpec, factory: TaskFactory, folder: Path) -> Any:
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    resources = config.resources
    worker = {"CPU": resources.cpus_per_worker, **({"GPU": 1} if _gpus(resources) else {})}
    scaling = ScalingConfig(
        num_workers=resources.num_workers, use_gpu=bool(_gpus(resources)), resources_per_worker=worker
    )
    # A name of its own for every start: Ray would silently resume a run name that it has seen.
    run = RunConfig(name=f"{name}-{time.time_ns()}", storage_path=str((folder / ".ray_train").resolve()))

    def train_worker() -> None:
        _train_in_worker(name, config, factory, folder.resolve())

    return TorchTrainer(train_worker, scaling_config=scaling, run_config=run)


def _train_in_worker(name: str, config: FitSpec, factory: TaskFactory, folder: Path) -> None:
    import ray.train
    from ray.train.torch import get_device

    context = ray.train.get_context()
    share = Share(context.get_world_rank(), context.get_world_size())
    device = get_device() if config.resources.device != "cpu" else torch.device("cpu")
    run = Fit(name, config, factory(share, device), folder, share)
    if share.rank == 0:
        with MetricLog(folder / "metrics.jsonl", name) as log:
            log.write(0, {"num_updates": run.num_updates})
    result = run((folder / STOP_FILE).exists, lambda _update, _note: None)
    ray.train.report({"update": result.update, **result.figures})


def _gpus(resources: FitResources) -> int:
    """GPUs that the workers need: one each where CUDA is asked for, or there for the taking."""
    if resources.device not in {"auto", "cuda"}:
        return 0
    import ray

    has_gpu = ray.cluster_resources().get("GPU", 0) >= resources.num_workers
    if resources.device == "cuda" and not has_gpu:
        raise LapaError("resources.device cuda: Ray has no GPU for every worker; give auto or cpu, or fewer workers.")
    return resources.num_workers if has_gpu else 0


def _named(error: BaseException) -> BaseException:
    """The `LapaError` that a worker raised, out of Ray's wrapping; any other error as it is."""
    failures = list(getattr(error, "worker_failures", {}).values())
    for failure in [error, *failures]:
        cause: BaseException | None = failure
        while cause is not None:
            if isinstance(cause, LapaError):
                return LapaError(str(cause))
            cause = cause.__cause__ or getattr(cause, "cause", None)
    for failure in failures:
        if "LapaError: " in str(failure):
            return LapaError(str(failure).split("LapaError: ")[-1].splitlines()[0])
    return error


def _result_in(folder: Path) -> FitResult:
    state = load_checkpoint(folder / "checkpoints" / "last.pt")
    return FitResult(state["update"], state["num_updates"], state["best_figures"])


def _wrap(model: nn.Module, share: Share) -> nn.Module:
    if share.world_size == 1:
        return model
    from ray.train.torch import prepare_model

    wrapped: nn.Module = prepare_model(model, move_to_device=False)
    return wrapped


def _agree(value: float, share: Share, operation: Any) -> float:
    if share.world_size == 1:
        return value
    tensor = torch.tensor([float(value)])
    if dist.get_backend() == "nccl":
        tensor = tensor.cuda()
    dist.all_reduce(tensor, op=operation)
    return float(tensor.item())


def _write(log: MetricLog | None, step: int, values: Figures) -> None:
    if log is not None:
        log.write(step, values)
