"""The pool of rollout workers: starts them, gives them rollouts, replaces the dead. Runs in the driver.

It knows neither learner nor limiter. A dead worker means a lost rollout, and so does one whose environment raised or
that could not deliver; any other exception in a worker is a fault and is raised here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayTaskError

from lapa_ray.actors.faults import (
    DEATHS,
    MAX_DEATHS_IN_A_ROW,
    check_created,
    environment_fault,
    fault_of,
    leans_on_dead,
    named_fault,
    reason_of,
    say,
)
from lapa_ray.actors.rollout_worker import RolloutStats
from lapa_ray.core.errors import LapaError
from lapa_ray.replay.chunk import Chunk

StartWorker = Callable[[int], Any]
"""→ the handle of a new worker in the place of that number, with blocks of episode ids of its own."""


@dataclass(frozen=True)
class _Rollout:
    """Who plays it, its agent steps, and the learner's updates when its weights were taken."""

    index: int
    num_steps: int
    weights_update: int


class WorkerPool:
    """Workers, at most one rollout under way in each."""

    def __init__(self, start_worker: StartWorker, max_env_failures: int = 3) -> None:
        """`max_env_failures`: how often the environments of one worker may raise."""
        self._start_worker, self._max_env_failures = start_worker, max_env_failures
        self._workers: list[Any] = []
        self._rollouts: dict[ray.ObjectRef, _Rollout] = {}
        self._deaths_in_a_row = 0
        self._env_failures: Counter[int] = Counter()
        self.num_lost = 0

    def start(self, num_workers: int) -> None:
        """Start `num_workers` workers."""
        self._workers = [self._start_worker(index) for index in range(num_workers)]

    @property
    def handles(self) -> list[Any]:
        """The workers' actor handles."""
        return list(self._workers)

    @property
    def under_way(self) -> list[ray.ObjectRef]:
        """References of the rollouts under way."""
        return list(self._rollouts)

    @property
    def num_steps_under_way(self) -> int:
        """Agent steps of the rollouts under way."""
        return sum(rollout.num_steps for rollout in self._rollouts.values())

    @property
    def num_env_failures(self) -> int:
        """How often environments raised."""
        return self._env_failures.total()

    @property
    def oldest_weights_update(self) -> int | None:
        """The learner's updates when the oldest weights that are played with were taken; None if nobody plays."""
        return min((rollout.weights_update for rollout in self._rollouts.values()), default=None)

    @property
    def has_idle(self) -> bool:
        """Whether a worker has nothing to do."""
        return len(self._rollouts) < len(self._workers)

    def play(self, weights: ray.ObjectRef, epsilon: float, rounds: int, num_steps: int, weights_update: int) -> None:
        """Have an idle worker step each of its environments `rounds` times, `num_steps` steps in all."""
        busy = {rollout.index for rollout in self._rollouts.values()}
        index = next(index for index in range(len(self._workers)) if index not in busy)
        reference = self._workers[index].play.remote(weights, epsilon, rounds, index)
        self._rollouts[reference] = _Rollout(index, num_steps, weights_update)

    def take(self, reference: ray.ObjectRef) -> tuple[RolloutStats, int] | None:
        """The result of a finished rollout and the update of its weights, or None if it was lost.

        Its worker is replaced if it died, or if its environment raised. Raises `LapaError` for a fault of the user's or
        when that happened too often, `RayTaskError` for a fault of ours.
        """
        rollout = self._rollouts.pop(reference)
        try:
            stats: RolloutStats = ray.get(reference)
        except RayTaskError as error:
            self._take_fault(rollout.index, error)
            return None
        except DEATHS as error:
            self._replace_dead(rollout.index, error)
            return None
        self._deaths_in_a_row = 0
        return stats, rollout.weights_update

    def connect(self, send: Callable[[list[Chunk]], None]) -> None:
        """Have all workers give their chunks to `send` from now on; no rollout may be under way."""
        for worker in self._workers:
            worker.connect.remote(send)  # one that is dead is found by its next rollout

    def close(self) -> None:
        """Let every worker put its gameplay in place; what a dead one had open is lost."""
        for closing in [worker.close.remote() for worker in self._workers]:
            self._take_closing(closing)

    def kill(self) -> None:
        """End all workers at once."""
        for worker in self._workers:
            ray.kill(worker)

    def get_state(self) -> dict[str, Any]:
        """How many workers died and how often the environments of each raised; the workers themselves are no part."""
        return {"num_lost": self.num_lost, "env_failures": dict(self._env_failures)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on counting from a state."""
        self.num_lost = int(state["num_lost"])
        self._env_failures = Counter(state["env_failures"])

    def check_valid(self) -> None:
        """Raise `AssertionError` if a worker has two rollouts, or one that is not there has one."""
        busy = [rollout.index for rollout in self._rollouts.values()]
        assert len(set(busy)) == len(busy), "two rollouts in one worker"
        assert set(busy) <= set(range(len(self._workers))), "a rollout without a worker"
        assert min([self.num_lost, *self._env_failures.values()]) >= 0, "counts below 0"

    def _take_fault(self, index: int, error: RayTaskError) -> None:
        """An exception in a worker that lives on. If another's death is behind it, that one's own calls will tell."""
        if named := named_fault(error):
            raise named from error
        if raised := environment_fault(error):
            self._note_failure(index, raised)
            self._take_closing(self._workers[index].close.remote())
            self._replace(index)
        elif not leans_on_dead(error):
            raise fault_of(error, "a rollout worker") from error

    def _note_failure(self, index: int, raised: str) -> None:
        self._env_failures[index] += 1
        count, limit = self._env_failures[index], self._max_env_failures
        if count > limit:
            raise LapaError(
                f"the environments of worker {index} raised {count} times (--workers.max_env_failures {limit}), at "
                f"last {raised}.\nMend the environment or try another --seed, then add --resume."
            )
        say(
            f"An environment raised {raised} ({count} of {limit} times in worker {index}); another worker takes its "
            "place with other episodes."
        )

    def _replace_dead(self, index: int, error: Exception) -> None:
        if raised := environment_fault(error):  # at the first reset
            self._note_failure(index, raised)
            self._replace(index)
            return
        check_created(error)
        self.num_lost += 1
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row >= MAX_DEATHS_IN_A_ROW:
            raise LapaError(
                f"rollout workers died {self._deaths_in_a_row} times in a row ({reason_of(error)}); "
                "give them more memory or ask for fewer, then add --resume."
            ) from error
        say(f"A rollout worker died ({reason_of(error)}); its rollout is lost, another one takes its place.")
        self._replace(index)

    def _replace(self, index: int) -> None:
        ray.kill(self._workers[index])  # one that is merely out of reach must not come back beside its successor
        self._workers[index] = self._start_worker(index)

    def _take_closing(self, reference: ray.ObjectRef) -> None:
        try:
            ray.get(reference)
        except RayTaskError as error:
            raise fault_of(error, "a rollout worker") from error
        except DEATHS as error:
            self.num_lost += 1
            say(f"A rollout worker died before it closed its shards ({reason_of(error)}).")
