"""The supervisor: the loop worker → replay server → learner → weights → worker, driven from one place.

It starts rollouts while the limiter allows, keeps the learner busy, hands out fresh weights as one object, replaces
dead workers and says when to log and to save. It knows no files but what it is told to save to.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ObjectLostError, RayActorError, RayTaskError

from lapa_ray.actors.learner import LearnerReport
from lapa_ray.actors.rollout_worker import RolloutStats
from lapa_ray.core.errors import LapaError

UPDATES_PER_REPORT = 50
"""Updates between two looks at the learner, and between fresh weights."""
WAIT_S = 0.5
LOST_ROLLOUT = (RayActorError, ObjectLostError)
"""What the death of a worker or its node looks like: the rollout is lost, the run goes on."""


@dataclass
class Counters:
    """Where a run is; what a checkpoint keeps beside the learner's state."""

    num_steps: int = 0
    num_episodes: int = 0
    next_block: int = 0

    def as_dict(self) -> dict[str, int]:
        """For the checkpoint."""
        return dict(vars(self))


@dataclass
class Window:
    """What happened since the last row of the log."""

    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    num_steps: int = 0
    num_updates: int = 0
    start: float = field(default_factory=time.monotonic)

    def row(self) -> dict[str, float]:
        """Means and rates over the window."""
        seconds = max(time.monotonic() - self.start, 1e-9)
        row = {**self.metrics, "steps_per_s": self.num_steps / seconds, "updates_per_s": self.num_updates / seconds}
        if self.returns:
            row["return"] = sum(self.returns) / len(self.returns)
            row["episode_length"] = sum(self.lengths) / len(self.lengths)
        return row


@dataclass(frozen=True)
class Plan:
    """How much is to be done, and how often to tell of it."""

    num_steps: int
    num_updates: int
    rollout_steps: int
    envs_per_worker: int
    log_period_s: float
    checkpoint_period_updates: int


StartWorker = Callable[[list[int]], Any]
"""Blocks of episode ids → a started worker."""


class Supervisor:
    """Drives the actors until the plan is done or a stop is asked for."""

    def __init__(
        self,
        plan: Plan,
        server: Any,
        learner: Any,
        start_worker: StartWorker,
        epsilon: Callable[[int], float],
        counters: Counters,
        num_updates: int = 0,
    ) -> None:
        self._plan, self._server, self._learner = plan, server, learner
        self._start_worker, self._epsilon = start_worker, epsilon
        self.counters = counters
        self.num_updates = num_updates
        self.num_lost_workers = 0
        self._weights = learner.weights.remote()
        self._workers: list[Any] = []
        self._rollouts: dict[Any, int] = {}
        self._steps_under_way = 0
        self._training: Any = None
        self._window = Window()
        self._last_checkpoint = num_updates

    @property
    def is_done(self) -> bool:
        """Whether all steps were played and all updates made."""
        return self.counters.num_steps >= self._plan.num_steps and self.num_updates >= self._plan.num_updates

    def start(self, num_workers: int) -> None:
        """Start the workers."""
        self._workers = [self._new_worker() for _ in range(num_workers)]

    def run(
        self,
        should_stop: Callable[[], bool],
        log: Callable[[int, dict[str, float]], None],
        save: Callable[[], None],
        on_step: Callable[[int], None],
    ) -> None:
        """Run to the end, or until `should_stop`; what is under way then is waited for and counted."""
        while not self.is_done and not should_stop():
            self._start_rollouts()
            self._start_training()
            self._collect()
            on_step(self.counters.num_steps)
            if time.monotonic() - self._window.start >= self._plan.log_period_s:
                self._write(log)
            if self.num_updates - self._last_checkpoint >= self._plan.checkpoint_period_updates:
                self._drain()
                self._last_checkpoint = self.num_updates
                save()
        self._drain()
        self._write(log)

    def close_workers(self) -> None:
        """Let the workers finish their shards; one that died has none."""
        for worker in self._workers:
            try:
                ray.get(worker.close.remote())
            except LOST_ROLLOUT:
                self.num_lost_workers += 1

    def _start_rollouts(self) -> None:
        """Give each idle worker a rollout, if steps are left and the limiter allows them."""
        busy = set(self._rollouts.values())
        size = self._plan.rollout_steps * self._plan.envs_per_worker
        for index, worker in enumerate(self._workers):
            left = self._plan.num_steps - self.counters.num_steps - self._steps_under_way
            if index in busy or left <= 0:
                continue
            if not ray.get(self._server.may_insert.remote(self._steps_under_way + size)):
                return
            rounds = min(self._plan.rollout_steps, -(-left // self._plan.envs_per_worker))
            epsilon = self._epsilon(self.counters.num_steps)
            self._rollouts[worker.play.remote(self._weights, epsilon, rounds)] = index
            self._steps_under_way += rounds * self._plan.envs_per_worker

    def _start_training(self) -> None:
        left = self._plan.num_updates - self.num_updates
        if self._training is None and left > 0:
            self._training = self._learner.train.remote(min(left, UPDATES_PER_REPORT))

    def _collect(self) -> None:
        """Take in whatever is finished."""
        under_way = [*self._rollouts, *([self._training] if self._training is not None else [])]
        ready, _ = ray.wait(under_way, num_returns=1, timeout=WAIT_S) if under_way else ([], [])
        for reference in ready:
            if reference is self._training or reference == self._training:
                self._take_report()
            else:
                self._take_rollout(reference)

    def _drain(self) -> None:
        """Wait for everything under way."""
        while self._rollouts or self._training is not None:
            self._collect()

    def _take_report(self) -> None:
        report: LearnerReport = _get(self._training, "learner")
        self._training = None
        self._window.num_updates += report.num_updates - self.num_updates
        if report.num_updates > self.num_updates:
            self._weights = self._learner.weights.remote()
            self._window.metrics = report.metrics
        self.num_updates = report.num_updates

    def _take_rollout(self, reference: Any) -> None:
        index = self._rollouts.pop(reference)
        # Rollouts of one run differ in size only at its very end, when no further ones are started.
        self._steps_under_way = max(0, self._steps_under_way - self._plan.rollout_steps * self._plan.envs_per_worker)
        if not self._rollouts:
            self._steps_under_way = 0
        try:
            stats: RolloutStats = _get(reference, "worker")
        except LOST_ROLLOUT as error:
            self._replace_worker(index, error)
            return
        self.counters.num_steps += stats.num_steps
        self.counters.num_episodes += len(stats.episodes)
        self._window.num_steps += stats.num_steps
        self._window.returns += [episode[0] for episode in stats.episodes]
        self._window.lengths += [episode[1] for episode in stats.episodes]

    def _replace_worker(self, index: int, error: Exception) -> None:
        self.num_lost_workers += 1
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        print(f"A worker died ({reason}); its rollout is lost, another one takes its place.", flush=True)
        self._workers[index] = self._new_worker()

    def _new_worker(self) -> Any:
        first = self.counters.next_block
        self.counters.next_block += self._plan.envs_per_worker
        return self._start_worker(list(range(first, first + self._plan.envs_per_worker)))

    def _write(self, log: Callable[[int, dict[str, float]], None]) -> None:
        if not self._window.num_steps and not self._window.num_updates:
            return
        steps = self.counters.num_steps
        beta = ray.get(self._server.beta.remote(self.num_updates))
        extra = {"epsilon": self._epsilon(steps), "beta": beta, "num_updates": self.num_updates}
        log(steps, self._window.row() | extra | {"num_episodes": self.counters.num_episodes})
        self._window = Window()


def _get(reference: Any, who: str) -> Any:
    """The result of an actor. Raises `LapaError` for what it called bad input or for the learner's death."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        cause = error.cause if isinstance(error.cause, BaseException) else error
        raise (LapaError(str(cause)) if isinstance(cause, LapaError) else error) from error
    except LOST_ROLLOUT as error:
        if who == "worker":
            raise
        raise LapaError(f"the {who} died ({type(error).__name__}); continue with --resume.") from error


def checkpoint_name(num_updates: int) -> str:
    """Name of a checkpoint's files."""
    return f"update-{num_updates:010d}"


def checkpoint_path(folder: Path, num_updates: int, *, use_per: bool) -> Path:
    """The learner's file of a checkpoint."""
    return folder / f"{checkpoint_name(num_updates)}_{'PER' if use_per else 'NoPER'}.pth"
