"""The training loop in Ray Train workers: started, watched and stopped from here.

Relied on: every worker reads the parents' directories, and rank 0 writes checkpoints, metrics and its progress into
the artefact directory, so on a cluster of several machines both must lie on storage that all of them share. A stop
request travels as a file in that directory, which rank 0 looks for before each update.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ray
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer, get_device

from lapa_ray.actors.cluster import num_gpus, ray_session, require_resources
from lapa_ray.actors.cluster_address import cluster_address
from lapa_ray.actors.faults import named_fault
from lapa_ray.core.config import Device
from lapa_ray.core.errors import LapaError
from lapa_ray.core.progress import Progress
from lapa_ray.core.stop import StopRequest
from lapa_ray.models.checkpoint import load_checkpoint
from lapa_ray.models.device import bound_cpu_instructions, resolve_device
from lapa_ray.stages.fit_checkpoints import LAST
from lapa_ray.stages.fit_config import FitResources, FitSpec
from lapa_ray.stages.fit_loop import Fit, FitResult
from lapa_ray.stages.fit_share import Share
from lapa_ray.stages.fit_task import TaskFactory

STOP_FILE, PROGRESS_FILE, RAY_FOLDER = ".stop", ".progress.json", ".ray_train"
POLL_PERIOD_S = 0.3
MAX_RESTARTS = 2
"""Times that a training whose workers died is started again from its last checkpoint."""


def run_in_workers(name: str, config: FitSpec, factory: TaskFactory, folder: Path, stop: StopRequest) -> FitResult:
    """Train in Ray Train workers; see `run_fit`."""
    _check_device(config.resources)
    with ray_session(config.ray):
        _require(config.resources)
        try:
            for restarts_left in reversed(range(MAX_RESTARTS + 1)):
                failure = _run_once(name, config, factory, folder, stop)
                if failure is None:
                    break
                _judge(failure, restarts_left)
        finally:
            _clear(folder)
    state = load_checkpoint(folder / LAST)
    return FitResult(state["update"], state["num_updates"], state["best_figures"], not state["validation_due"])


def _run_once(
    name: str, config: FitSpec, factory: TaskFactory, folder: Path, stop: StopRequest
) -> BaseException | None:
    """Ray Train in a thread, since it blocks and would take Ctrl-C for itself; this one shows how far it is."""
    failures: list[BaseException] = []

    def train() -> None:
        try:
            _trainer(name, config, factory, folder).fit()
        except BaseException as error:
            failures.append(error)

    _clear(folder)
    thread = threading.Thread(target=train, daemon=True)
    thread.start()
    with ExitStack() as stack:
        progress: Progress | None = None
        while thread.is_alive():
            thread.join(timeout=POLL_PERIOD_S)
            if stop:
                (folder / STOP_FILE).touch()
            if (said := _read_progress(folder)) is not None:
                bar = progress or Progress(name, said["num_updates"], "updates", initial=said["update"])
                progress = progress or stack.enter_context(bar)
                progress.advance_to(said["update"], said["note"])
    return failures[0] if failures else None


def _judge(failure: BaseException, restarts_left: int) -> None:
    """Raise what starting again cannot mend."""
    fault = named_fault(failure) or next(
        (fault for inner in getattr(failure, "worker_failures", {}).values() if (fault := named_fault(inner))), None
    )
    if fault is not None:
        raise fault from failure
    lost_worker = isinstance(failure, TrainingFailedError) and "died" in str(failure)
    if not (lost_worker and restarts_left):
        raise failure
    print("A training worker died; starting again from the last checkpoint ...", file=sys.stderr, flush=True)


def _trainer(name: str, config: FitSpec, factory: TaskFactory, folder: Path) -> TorchTrainer:
    resources = config.resources
    use_gpu = num_gpus(resources.device, resources.num_workers) > 0
    worker = {"CPU": resources.cpus_per_worker, **({"GPU": 1} if use_gpu else {})}
    absolute = folder.resolve()

    def train_worker() -> None:
        _train_in_worker(name, config, factory, absolute)

    return TorchTrainer(
        train_worker,
        scaling_config=ScalingConfig(num_workers=resources.num_workers, use_gpu=use_gpu, resources_per_worker=worker),
        # A name of its own for every start: Ray would silently resume a run name that it has seen.
        run_config=RunConfig(
            name=f"{name}-{time.time_ns()}",
            storage_path=str(absolute / RAY_FOLDER),
            failure_config=FailureConfig(max_failures=0),  # it would repeat the user's faults as well
        ),
    )


def _train_in_worker(name: str, config: FitSpec, factory: TaskFactory, folder: Path) -> None:
    context = ray.train.get_context()
    share = Share(context.get_world_rank(), context.get_world_size())
    fit = Fit(name, config, factory(share, _device(config.resources.device, share)), folder, share)
    teller = _Teller(folder, fit.num_updates)
    on_update = teller.tell if share.rank == 0 else lambda _update, _note: None
    fit((folder / STOP_FILE).exists, on_update)


def _device(asked: Device, share: Share) -> torch.device:
    """What Ray gave this worker; or MPS, which Ray knows nothing of: it is there without being asked for.

    Several workers of one Mac would share its one MPS, and cannot add up their gradients there: `auto` leaves it.
    """
    bound_cpu_instructions()  # a worker on another machine has nothing of what the driver set
    given = torch.device("cpu") if asked in {"cpu", "mps"} else get_device()
    is_free = asked == "auto" and given.type == "cpu" and share.world_size == 1
    if asked == "mps" or (is_free and torch.backends.mps.is_available()):
        return resolve_device("mps")
    return given


class _Teller:
    """Leaves rank 0's progress where the driver looks for it, as often as it looks."""

    def __init__(self, folder: Path, num_updates: int) -> None:
        self._path, self._num_updates, self._last = folder / PROGRESS_FILE, num_updates, -1.0

    def tell(self, update: int, note: str) -> None:
        if time.monotonic() - self._last < POLL_PERIOD_S and update < self._num_updates:
            return
        self._last = time.monotonic()
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"update": update, "num_updates": self._num_updates, "note": note}))
        temporary.replace(self._path)  # not flushed to disk: it is worth nothing after a crash


def _read_progress(folder: Path) -> dict[str, Any] | None:
    try:
        said: dict[str, Any] = json.loads((folder / PROGRESS_FILE).read_text())
    except FileNotFoundError:
        return None
    return said


def _clear(folder: Path) -> None:
    """Remove what only a running training needs."""
    for name in (STOP_FILE, PROGRESS_FILE):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / RAY_FOLDER, ignore_errors=True)


def _check_device(resources: FitResources) -> None:
    """Refuse what cannot work before Ray starts. On a cluster the workers' machines decide, not this one."""
    if resources.device == "mps" and resources.num_workers > 1:
        raise LapaError(
            f"--resources.num_workers {resources.num_workers}: mps serves one worker; give 1, or "
            "--resources.device auto or cpu."
        )
    if cluster_address() is None:
        resolve_device(resources.device)


def _require(resources: FitResources) -> None:
    gpus = num_gpus(resources.device, resources.num_workers)
    require_resources(cpus=resources.num_workers * resources.cpus_per_worker, gpus=gpus)
