"""The supervisor: the loop worker → replay server → learner → weights → worker, driven from one place.

It starts rollouts and updates as the server's limiter allows them, hands out fresh weights as one object, and says when
to log and to save. It knows no files, no games and no networks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray

from lapa_ray.actors.learner import LearnerReport
from lapa_ray.actors.replay_server import ReplayStatus
from lapa_ray.actors.run_log import Counters, RunLog
from lapa_ray.actors.worker_pool import WorkerPool, result_of

UPDATES_PER_REPORT = 50
"""Most updates between two looks at the learner, and between fresh weights."""
WAIT_S = 0.5


@dataclass(frozen=True)
class Plan:
    """How much is to be done, and how often to tell of it and to save it."""

    num_steps: int
    num_updates: int
    rollout_steps: int
    envs_per_worker: int
    log_period_s: float
    checkpoint_period_updates: int


class Supervisor:
    """Drives the actors until the plan is done or a stop is asked for.

    `counters` are its to change. Done is: all steps played, and all updates made that they earned. The steps of a
    rollout that was lost with its worker are played again.
    """

    def __init__(
        self,
        plan: Plan,
        server: Any,
        learner: Any,
        pool: WorkerPool,
        epsilon: Callable[[int], float],
        counters: Counters,
    ) -> None:
        self._plan, self._server, self._learner, self._pool = plan, server, learner, pool
        self._epsilon = epsilon
        self.counters = counters
        self.log = RunLog()
        self.is_done = False
        self._weights = learner.weights.remote()
        self._training: ray.ObjectRef | None = None
        self._last_saved_update = counters.num_updates

    def run(
        self,
        should_stop: Callable[[], bool],
        write: Callable[[int, dict[str, float]], None],
        save: Callable[[], None],
        on_progress: Callable[[], None],
    ) -> None:
        """Run until done, or until `should_stop`; what is under way then is waited for and counted."""
        while not should_stop():
            self._start_what_is_allowed()
            if self.is_done:
                break
            self._collect()
            on_progress()
            if self.log.seconds >= self._plan.log_period_s:
                self._write(write)
            if self.counters.num_updates - self._last_saved_update >= self._plan.checkpoint_period_updates:
                self._drain()
                save()
                self._last_saved_update = self.counters.num_updates
        self._drain()
        self._write(write)

    def _start_what_is_allowed(self) -> None:
        status: ReplayStatus = result_of(self._server.status.remote(), "replay server")
        self._start_training(status.allowed_batches)
        self._start_rollouts(status.allowed_inserts)
        if not self._under_way():
            self._check_done(status)

    def _check_done(self, status: ReplayStatus) -> None:
        """Nothing is under way and nothing was allowed: that must be the end of the plan."""
        if self.counters.num_steps < self._plan.num_steps:
            raise RuntimeError(f"nothing may go on at step {self.counters.num_steps:,}: {status}")
        self.is_done = True

    def _start_training(self, allowed: int) -> None:
        count = min(self._plan.num_updates - self.counters.num_updates, allowed, UPDATES_PER_REPORT)
        if self._training is None and count > 0:
            self._training = self._learner.train.remote(count)

    def _start_rollouts(self, allowed: float) -> None:
        num_envs = self._plan.envs_per_worker
        while self._pool.has_idle:
            under_way = self._pool.num_steps_under_way
            left = self._plan.num_steps - self.counters.num_steps - under_way
            rounds = min(self._plan.rollout_steps, -(-left // num_envs))
            if rounds <= 0 or under_way + rounds * num_envs > allowed:
                return
            self._pool.play(self._weights, self._epsilon(self.counters.num_steps), rounds, rounds * num_envs)

    def _under_way(self) -> list[ray.ObjectRef]:
        return [*self._pool.under_way, *([] if self._training is None else [self._training])]

    def _collect(self) -> None:
        """Take in whatever is finished."""
        ready, _ = ray.wait(self._under_way(), num_returns=1, timeout=WAIT_S)
        for reference in ready:
            if reference == self._training:
                self._take_report()
            else:
                self._take_rollout(reference)

    def _drain(self) -> None:
        """Wait for everything under way."""
        while self._under_way():
            self._collect()

    def _take_report(self) -> None:
        report: LearnerReport = result_of(self._training, "learner")
        self._training = None
        self.log.note_updates(report.num_updates - self.counters.num_updates, report.metrics)
        self.counters.num_updates = report.num_updates
        self._weights = self._learner.weights.remote()

    def _take_rollout(self, reference: ray.ObjectRef) -> None:
        stats = self._pool.take(reference)
        if stats is None:
            return
        self.counters.num_steps += stats.num_steps
        self.counters.num_episodes += len(stats.episodes)
        self.log.note_rollout(stats)

    def _write(self, write: Callable[[int, dict[str, float]], None]) -> None:
        if self.log.is_empty:
            return
        counters = self.counters
        beta = result_of(self._server.beta.remote(counters.num_updates), "replay server")
        row = self.log.take_row() | {"epsilon": self._epsilon(counters.num_steps), "beta": beta}
        write(counters.num_steps, row | {"num_updates": counters.num_updates, "num_episodes": counters.num_episodes})
