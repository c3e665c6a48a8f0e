"""The supervisor: the loop worker → replay server → learner → weights → worker, driven from one place.

It starts rollouts and updates as the server's limiter allows them, hands out fresh weights as one object, says when to
log and to save, and goes on where it was when an actor has died. It knows no files, no games and no networks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import ray

from lapa_ray.actors.crew import Crew
from lapa_ray.actors.learner import LearnerReport
from lapa_ray.actors.replaceable import DeathError, LeanedOnDeadError
from lapa_ray.actors.replay_server import ReplayStatus
from lapa_ray.actors.run_log import Counters, RunLog

UPDATES_PER_REPORT = 50
"""Most updates between two looks at the learner, and between fresh weights."""
WAIT_S = 0.5

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """How much is to be done, how old weights may grow, and how often to tell of it and to save it."""

    num_steps: int
    num_updates: int
    rollout_steps: int
    envs_per_worker: int
    log_period_s: float
    checkpoint_period_updates: int
    max_weights_age_updates: int = 1_000


class Supervisor:
    """Drives the actors until the plan is done or a stop is asked for.

    Done is: all steps played, and all updates made that they earned. Steps of a rollout that was lost are played again,
    updates that were lost with a learner are made again, and steps that fill a lost buffer again come on top.
    No worker plays with weights that are more than `max_weights_age_updates` updates behind the learner.
    """

    def __init__(self, plan: Plan, crew: Crew, epsilon: Callable[[int], float], counters: Counters) -> None:
        """`counters` are its to change; server and learner must stand where they say."""
        self._plan, self._crew, self._epsilon = plan, crew, epsilon
        self.counters = counters
        self.log = RunLog()
        self.is_done = False
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
        self._take_weights()
        while not (self.is_done or should_stop()):
            self.attempt(lambda: self._turn(write, save, on_progress))
        self.attempt(self._drain)
        self.attempt(lambda: self._write(write))

    def attempt(self, action: Callable[[], T]) -> T:
        """The result of `action`, which is tried again whenever an actor died in it and has been replaced."""
        while True:
            try:
                return action()
            except DeathError as death:
                self._replace(death)

    def get_state(self) -> dict[str, Any]:
        """Counters, log, and who died: all that is here and not in an actor. Nothing may be under way."""
        return {"counters": self.counters.as_dict(), "log": self.log.get_state(), "crew": self._crew.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over log and deaths of a state; its counters must be those that this was made with."""
        self.log.set_state(state["log"])
        self._crew.set_state(state["crew"])

    def check_valid(self) -> None:
        """Raise `AssertionError` if counters, weights and actors disagree."""
        self.counters.check_valid()
        self._crew.check_valid()
        assert self.weights_age <= self._plan.max_weights_age_updates, "weights too old"

    @property
    def weights_age(self) -> int:
        """Updates that the learner, as it last reported, is ahead of the oldest weights that are played with."""
        oldest = self._crew.pool.oldest_weights_update
        return 0 if oldest is None else max(0, self.counters.num_updates - oldest)

    def _turn(
        self, write: Callable[[int, dict[str, float]], None], save: Callable[[], None], on_progress: Callable[[], None]
    ) -> None:
        status = self._start_what_is_allowed()
        if not self._under_way():
            self._end(status)
            return
        self._collect()
        on_progress()
        if self.log.seconds >= self._plan.log_period_s:
            self._write(write)
        if self.counters.num_updates - self._last_saved_update >= self._plan.checkpoint_period_updates:
            self._drain()
            self._write(write)  # what a checkpoint keeps untold, a run that is killed after it would tell twice
            save()
            self._last_saved_update = self.counters.num_updates

    def _start_what_is_allowed(self) -> ReplayStatus:
        made = self.counters.num_updates if self._training is None else None
        status = self._crew.status(made)
        self._start_training(status.allowed_batches)
        self._start_rollouts(status)
        return status

    def _end(self, status: ReplayStatus) -> None:
        """Nothing is under way and nothing was allowed: that must be the end of the plan."""
        if self._num_steps_left(status) > 0:
            raise RuntimeError(f"nothing may go on at step {self.counters.num_steps:,}: {status}")
        self._crew.learner_state()  # a copy: nothing can be lost any more
        self.is_done = True

    def _start_training(self, allowed: int) -> None:
        may_age = self._plan.max_weights_age_updates - self.weights_age
        count = min(self._plan.num_updates - self.counters.num_updates, allowed, UPDATES_PER_REPORT, may_age)
        if self._training is None and count > 0:
            self._training = self._crew.learner.handle.train.remote(count)

    def _num_steps_left(self, status: ReplayStatus) -> int:
        """Steps to be played, those under way included."""
        extra = status.num_extra_inserts if self.counters.num_updates < self._plan.num_updates else 0
        return self._plan.num_steps + extra - self.counters.num_steps

    def _start_rollouts(self, status: ReplayStatus) -> None:
        num_envs, pool = self._plan.envs_per_worker, self._crew.pool
        while pool.has_idle:
            under_way = pool.num_steps_under_way
            rounds = min(self._plan.rollout_steps, -(-(self._num_steps_left(status) - under_way) // num_envs))
            if rounds <= 0 or not self._may_insert(under_way + rounds * num_envs, status):
                return
            epsilon = self._epsilon(self.counters.num_steps)
            pool.play(self._weights, epsilon, rounds, rounds * num_envs, self._weights_update)

    def _may_insert(self, num_steps: int, status: ReplayStatus) -> bool:
        """Steps wait for the updates that they earn. Once all updates are made there is none to wait for.

        The server may then hold more than the driver counts: rollouts of workers that died after they had delivered.
        """
        return self.counters.num_updates >= self._plan.num_updates or num_steps <= status.allowed_inserts

    def _under_way(self) -> list[ray.ObjectRef]:
        return [*self._crew.pool.under_way, *([] if self._training is None else [self._training])]

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
        reference, self._training = self._training, None
        try:
            report: LearnerReport = self._crew.learner.result_of(reference)
        except LeanedOnDeadError as error:
            self._take_part_of_report(error)
            return
        self._crew.note_report()
        self.log.note_updates(report.num_updates - self.counters.num_updates, report.metrics)
        self.counters.num_updates = report.num_updates
        self._crew.copy_learner(report.num_updates)
        self._take_weights()

    def _take_part_of_report(self, error: LeanedOnDeadError) -> None:
        """The learner lives, and the server failed it: the updates made until then count. Its own calls tell of it."""
        self._crew.learner.note_failure("could not reach the replay server", str(error))
        self.counters.num_updates = int(self._crew.learner_state()["num_updates"])
        self._take_weights()

    def _take_weights(self) -> None:
        self._weights = self._crew.learner.handle.weights.remote()
        self._weights_update = self.counters.num_updates

    def _take_rollout(self, reference: ray.ObjectRef) -> None:
        taken = self._crew.pool.take(reference)
        if taken is None:
            self._crew.learner.result_of(self._weights)  # they may be what is lost
            return
        stats, weights_update = taken
        self.counters.num_steps += stats.num_steps
        self.counters.num_episodes += len(stats.episodes)
        self.log.note_rollout(stats, self.counters.num_updates - weights_update)

    def _replace(self, death: DeathError) -> None:
        """Put someone in the place of the dead one, and of those who die meanwhile."""
        while True:
            try:
                if death.place is self._crew.server:
                    self._replace_server(death)
                else:
                    self._replace_learner(death)
                return
            except DeathError as another:
                death = another

    def _replace_server(self, death: DeathError) -> None:
        self._drain()
        self._crew.replace_server(death, self.counters.num_steps, self.counters.num_updates)

    def _replace_learner(self, death: DeathError) -> None:
        self._training = None
        made = self._crew.replace_learner(death, self.counters.num_updates)
        self.counters.num_redone_updates += max(0, self.counters.num_updates - made)
        self.counters.num_updates = made
        self._last_saved_update = min(self._last_saved_update, made)
        self._take_weights()

    def _write(self, write: Callable[[int, dict[str, float]], None]) -> None:
        if self.log.is_empty:
            return
        counters = self.counters
        beta = self._crew.server.ask("beta", counters.num_updates)
        row = self.log.take_row() | {"epsilon": self._epsilon(counters.num_steps), "beta": beta}
        write(counters.num_steps, row | {"num_updates": counters.num_updates, "num_episodes": counters.num_episodes})
