"""Trials: several trainings side by side, as Ray Tune trials that reserve all that they start.

Each trial makes an artefact of its own, as its command alone would make it, in a folder of its own. So what is whole is
kept, what is not goes on from its last checkpoint, and Tune needs no state: it places, watches, retries and, with a
scheduler, ends what promises little. A stop request travels as a file, which every trial looks for, so the folders must
lie on storage that all nodes share. Knows no kind of training.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from pydantic import Field, PositiveInt
from ray import tune
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import BasicVariantGenerator

from lapa_ray.actors.cluster import RESOURCE_LINE_PERIOD_S, require_resources
from lapa_ray.actors.faults import named_fault, plain
from lapa_ray.core import locks
from lapa_ray.core.allocator import give_back_memory
from lapa_ray.core.artefact import MANIFEST, RUN
from lapa_ray.core.config import Config, StageConfig
from lapa_ray.core.errors import AlreadyWholeError, StoppedError
from lapa_ray.core.files import write_text
from lapa_ray.core.stop import StopRequest

STOP_FILE, BEGUN_FILE, TUNE_FOLDER, FAILURE = ".stop", ".begun", ".ray_tune", ".failure-{}.txt"
ENDED_EARLY = "ended_early.txt"
"""In the folder of a training that a scheduler ended."""
POLL_PERIOD_S = 0.5
QUIET = {"RAY_AIR_NEW_OUTPUT": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_PRINT_ALL_TRIAL_ERRORS": "0"}
"""Tune prints and writes nothing: how far trials are is told here, who failed and why at the end."""
CREEP = 1e-6
"""Of sums of fractional cores."""


class TrialResources(Config):
    """How trials run; none of it changes what they learn but for the order of additions."""

    part_of_identity = False

    max_concurrent: PositiveInt | None = None
    """Number of trials at once; as many as the cluster has room for at the start if not given."""
    num_retries: int = Field(2, ge=0)
    """Times that a trial which failed is started again, from its last checkpoint."""


@dataclass(frozen=True)
class TrialRun:
    """Trainings by name, and the folder, absolute as theirs, of the hidden files by which they are led.

    `work` trains by a config until it is done or stopped, in a trial's process; it raises `StoppedError` where it was
    stopped. `bundles` is what a trial reserves; the first is its driver's. `scheduler` ends trials early by what `work`
    reports to Tune.
    """

    configs: Mapping[str, StageConfig]
    folder: Path
    resources: TrialResources
    bundles: Sequence[dict[str, float]]
    work: Callable[[Any, StopRequest], None]
    scheduler: TrialScheduler | None = None

    @property
    def left(self) -> list[str]:
        """Names of those that are neither whole nor ended early."""
        return [
            name
            for name, config in self.configs.items()
            if not (config.out / MANIFEST).exists() and not (config.out / ENDED_EARLY).exists()
        ]

    @property
    def need(self) -> dict[str, float]:
        """What a trial reserves in all."""
        return {name: sum(bundle.get(name, 0.0) for bundle in self.bundles) for name in ("CPU", "GPU")}

    def failures(self) -> dict[str, str]:
        """Name of each training that is not whole to why it is not."""
        return {name: self._failure(name) for name in self.left}

    def clear(self) -> None:
        """Remove what only running trials need."""
        for name in (STOP_FILE, BEGUN_FILE):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / TUNE_FOLDER, ignore_errors=True)
        for name in self.configs:
            self.failure_path(name).unlink(missing_ok=True)

    def failure_path(self, name: str) -> Path:
        """Where a trial writes why it failed."""
        return self.folder / FAILURE.format(name)

    def _failure(self, name: str) -> str:
        path = self.failure_path(name)
        return path.read_text(encoding="utf-8") if path.exists() else "its process died"


def run_trials(trials: TrialRun, stop: StopRequest, on_poll: Callable[[], None]) -> dict[str, str]:
    """Run what is left in the Ray session that there is; returns the failures, after `stop` of what was broken off.

    Raises `LapaError` if the cluster has no room for even one.
    """
    if not trials.left:
        trials.clear()  # a kill after the last of them left what is hidden
        return {}
    require_resources(cpus=trials.need["CPU"], gpus=trials.need["GPU"])
    trials.clear()
    try:
        _run(trials, stop, on_poll)
        return trials.failures()
    finally:
        trials.clear()


def _run(trials: TrialRun, stop: StopRequest, on_poll: Callable[[], None]) -> None:
    """Ray Tune in a thread, since it blocks and would take Ctrl-C for itself; this one watches."""
    errors: list[BaseException] = []

    def fit() -> None:
        try:
            _tuner(trials).fit()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    waiting = _Waiting(trials)
    while thread.is_alive():
        thread.join(timeout=POLL_PERIOD_S)
        if stop:
            (trials.folder / STOP_FILE).touch()
        waiting.tell()
        on_poll()
    if errors:
        raise named_fault(errors[0]) or errors[0]


def _tuner(trials: TrialRun) -> tune.Tuner:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    configs, work, stop_file = dict(trials.configs), trials.work, trials.folder / STOP_FILE
    failure_path = trials.failure_path

    def run(chosen: Mapping[str, Any]) -> None:
        name = chosen["trial"]
        run_trial(configs[name], work, stop_file, failure_path(name))

    return tune.Tuner(
        tune.with_resources(run, tune.PlacementGroupFactory(list(trials.bundles))),
        param_space={"trial": tune.grid_search(trials.left)},
        tune_config=tune.TuneConfig(
            search_alg=_UntilStop(stop_file, at_once(trials.resources, trials.need)),
            scheduler=trials.scheduler,
            reuse_actors=trials.scheduler is None,  # one that is ended early is ended with its process
        ),
        run_config=tune.RunConfig(
            name=f"trials-{time.time_ns()}",  # a name that it has seen Ray would silently resume
            storage_path=str(stop_file.parent / TUNE_FOLDER),
            failure_config=tune.FailureConfig(max_failures=trials.resources.num_retries),
            callbacks=[_Silent(trials)],
            verbose=0,
        ),
    )


class _Silent(TrialProgressCallback):
    """In place of the one that Tune adds, which prints a line a trial whatever it is asked for.

    Notes which trials the scheduler ended: what is neither whole nor failed nor stopped.
    """

    def __init__(self, trials: TrialRun) -> None:
        super().__init__()
        self._trials = trials

    def on_trial_complete(self, *_arguments: Any, trial: Any, **_told: Any) -> None:
        name, folder = trial.config["trial"], self._trials.folder
        out = self._trials.configs[name].out
        if not (out / MANIFEST).exists() and not (folder / STOP_FILE).exists():
            write_text(out / ENDED_EARLY, "The sweep's scheduler ended this training: others promised more.\n")

    def on_trial_result(self, *_arguments: Any, **_told: Any) -> None:
        pass

    on_trial_error = on_trial_result


class _UntilStop(BasicVariantGenerator):
    """Hands out trials until a stop: one that is handed out starts processes before it can look for the file."""

    def __init__(self, stop_file: Path, max_concurrent: int) -> None:
        super().__init__(max_concurrent=max_concurrent)
        self._stop_file = stop_file

    def next_trial(self) -> Any:
        return None if self._stop_file.exists() else super().next_trial()

    def is_finished(self) -> bool:
        return self._stop_file.exists() or bool(super().is_finished())


class StopFile(StopRequest):
    """A stop request that is there as soon as a file is, which is looked for twice a second."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._next_look = path, 0.0

    def __bool__(self) -> bool:
        if not super().__bool__() and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + POLL_PERIOD_S
            if self._path.exists():
                self.set()
        return super().__bool__()


def run_trial(
    config: StageConfig, work: Callable[[Any, StopRequest], None], stop_file: Path, failure_path: Path
) -> None:
    """Train, or go on with it, in a trial's process; nothing if it is whole. Notes why it fails."""
    failure_path.unlink(missing_ok=True)
    stop_file.with_name(BEGUN_FILE).touch()
    try:
        work(config.model_copy(update={"resume": (config.out / RUN).exists()}), StopFile(stop_file))
    except (AlreadyWholeError, StoppedError):
        return
    except Exception as error:
        write_text(failure_path, _reason(error))
        raise
    finally:  # Tune may start the next trial in this process, and a retry in another
        locks.release(config.out)
        give_back_memory()


def _reason(error: Exception) -> str:
    fault = named_fault(error)
    text = str(fault) if fault is not None else f"{type(error).__name__}: {plain(error)}"
    return " ".join(text.split())[:500]


def at_once(resources: TrialResources, need: Mapping[str, float]) -> int:
    """How many trials run at once: a trial that waits would have to be started only to be told of a stop."""
    have = ray.cluster_resources()
    room = min(int(have.get(name, 0.0) / amount + CREEP) for name, amount in need.items() if amount)
    return resources.max_concurrent or max(room, 1)


def cores_a_trial(resources: TrialResources, need: Mapping[str, float]) -> int:
    """Cores of this machine that fall to a trial."""
    return max(1, (os.cpu_count() or 1) // at_once(resources, need))


class _Waiting:
    """Says every 30 s that no trial has begun."""

    def __init__(self, trials: TrialRun) -> None:
        self._begun = trials.folder / BEGUN_FILE
        self._start = self._last = time.monotonic()
        self._needs = f"{trials.need['CPU']:g} CPU in {len(trials.bundles)} bundles"

    def tell(self) -> None:
        now = time.monotonic()
        if now - self._last < RESOURCE_LINE_PERIOD_S or self._begun.exists():
            return
        self._last, free = now, ray.available_resources().get("CPU", 0)
        print(
            f"Waiting for the cluster ({now - self._start:.0f} s): no trial has begun; one needs {self._needs}, "
            f"free: {free:g} CPU.",
            file=sys.stderr,
            flush=True,
        )
