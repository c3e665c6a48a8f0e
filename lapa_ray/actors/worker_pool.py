"""The pool of rollout workers: starts them, gives them rollouts, replaces the dead. Runs in the driver.

It knows neither learner nor limiter. A dead worker means a lost rollout; an exception in a worker is a fault and is
raised here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import ObjectLostError, RayActorError, RayTaskError

from lapa_ray.actors.faults import named_fault, plain
from lapa_ray.actors.rollout_worker import RolloutStats
from lapa_ray.core.errors import LapaError

MAX_DEATHS_IN_A_ROW = 5
"""Deaths without one rollout between them after which the run gives up: something kills every worker."""
DEATHS = (RayActorError, ObjectLostError)

StartWorker = Callable[[], Any]
"""→ the handle of a new worker, with blocks of episode ids of its own."""


class WorkerPool:
    """Workers, at most one rollout under way in each."""

    def __init__(self, start_worker: StartWorker) -> None:
        self._start_worker = start_worker
        self._workers: list[Any] = []
        self._rollouts: dict[ray.ObjectRef, tuple[int, int]] = {}
        self._deaths_in_a_row = 0
        self.num_lost = 0

    def start(self, num_workers: int) -> None:
        """Start `num_workers` workers."""
        self._workers = [self._start_worker() for _ in range(num_workers)]

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
        return sum(num_steps for _, num_steps in self._rollouts.values())

    @property
    def has_idle(self) -> bool:
        """Whether a worker has nothing to do."""
        return len(self._rollouts) < len(self._workers)

    def play(self, weights: ray.ObjectRef, epsilon: float, rounds: int, num_steps: int) -> None:
        """Have an idle worker step each of its environments `rounds` times, `num_steps` steps in all."""
        busy = {index for index, _ in self._rollouts.values()}
        index = next(index for index in range(len(self._workers)) if index not in busy)
        self._rollouts[self._workers[index].play.remote(weights, epsilon, rounds, index)] = (index, num_steps)

    def take(self, reference: ray.ObjectRef) -> RolloutStats | None:
        """The result of a finished rollout, or None if it was lost with its worker, which is replaced.

        Raises `LapaError` for a fault of the user's, `RayTaskError` for one of ours.
        """
        index, _ = self._rollouts.pop(reference)
        try:
            stats: RolloutStats = ray.get(reference)
        except RayTaskError as error:
            raise _fault(error, "a rollout worker") from error
        except DEATHS as error:
            self._replace(index, error)
            return None
        self._deaths_in_a_row = 0
        return stats

    def close(self) -> None:
        """Let every worker put its gameplay in place; what a dead one had open is lost."""
        closing = [worker.close.remote() for worker in self._workers]
        for reference in closing:
            try:
                ray.get(reference)
            except RayTaskError as error:
                raise _fault(error, "a rollout worker") from error
            except DEATHS as error:
                self.num_lost += 1
                _say(f"A rollout worker died before it closed its shards ({_reason(error)}).")

    def kill(self) -> None:
        """End all workers at once."""
        for worker in self._workers:
            ray.kill(worker)

    def _replace(self, index: int, error: Exception) -> None:
        if getattr(error, "actor_init_failed", False):
            raise named_fault(error) or error
        self.num_lost += 1
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row >= MAX_DEATHS_IN_A_ROW:
            raise LapaError(
                f"rollout workers died {self._deaths_in_a_row} times in a row ({_reason(error)}); "
                "give them more memory or ask for fewer, then add --resume."
            ) from error
        _say(f"A rollout worker died ({_reason(error)}); its rollout is lost, another one takes its place.")
        ray.kill(self._workers[index])  # one that is merely out of reach must not come back beside its successor
        self._workers[index] = self._start_worker()


def result_of(reference: ray.ObjectRef, who: str) -> Any:
    """The result of an actor that cannot be replaced. Raises `LapaError` if it died or met a fault of the user's."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise _fault(error, who) from error
    except DEATHS as error:
        named = named_fault(error)
        if named is None and getattr(error, "actor_init_failed", False):
            raise  # a fault of ours, which --resume would meet again
        raise named or LapaError(_death(who, error)) from error


def _fault(error: RayTaskError, who: str) -> Exception:
    """What to raise for an exception in `who`; the death of an actor that it leant on looks like one."""
    if named := named_fault(error):
        return named
    if isinstance(error.cause, DEATHS):
        return LapaError(_death("replay server or the learner", error.cause))
    error.add_note(f"in {who}: this is a fault of lapa_ray")
    return error


def _death(who: str, error: Exception) -> str:
    return f"the {who} died ({_reason(error)}); add --resume to continue from the last checkpoint."


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in plain(error).splitlines() if line.strip()]
    return lines[0].rstrip(".:") if lines else type(error).__name__


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
