"""The crew of a training run: replay server, learner and workers, and how each comes back when it dies. In the driver.

A new server has a new handle, which workers and learner are told while nothing is under way: so no call can reach it
before it is restored, and none of the dead one's can be taken for its own. The learner goes on from a copy of its state
in the object store, which outlives it; older than `copy_period_updates` + one report it never is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from lapa_ray.actors.faults import say
from lapa_ray.actors.replaceable import DeathError, Replaceable
from lapa_ray.actors.replay_server import ReplayStatus
from lapa_ray.actors.rollout_worker import ServerLink
from lapa_ray.actors.worker_pool import WorkerPool

NUM_COPIES = 2
"""The newest may die with the learner that was asked for it; the one before is there for certain."""


@dataclass(frozen=True)
class Casting:
    """How actors are made and brought to the newest checkpoint; what takes a server takes its handle."""

    server: Callable[[], Any]
    learner: Callable[[Any], Any]
    worker: Callable[[Any, int], Any]
    """Takes the number of its place, too."""
    source: Callable[[Any], Any]
    """→ the learner's `BatchSource`."""
    load_server: Callable[[Replaceable], None]
    load_learner: Callable[[Replaceable], int]
    """→ the updates that it has made; 0 if there is no checkpoint."""
    max_env_failures: int = 3


class Crew:
    """Who is there."""

    def __init__(self, casting: Casting, copy_period_updates: int) -> None:
        """`copy_period_updates`: updates between two copies of the learner's state."""
        self._casting, self._copy_period_updates = casting, copy_period_updates
        self.server = Replaceable("replay server", casting.server)
        self.learner = Replaceable("learner", lambda: casting.learner(self.server.handle))
        self.pool = WorkerPool(lambda index: casting.worker(self.server.handle, index), casting.max_env_failures)
        self._copies: deque[ray.ObjectRef] = deque(maxlen=NUM_COPIES)
        self._last_copy_update = 0
        self._last_status: ReplayStatus | None = None

    def status(self, num_updates_done: int | None) -> ReplayStatus:
        """What the server says of itself. Raises `DeathError`."""
        status: ReplayStatus = self.server.ask("status", num_updates_done)
        self._last_status = status
        return status

    def note_report(self) -> None:
        """Updates were made, for which both are there: a server that dies whenever it is filled gave none."""
        self.server.note_progress()
        self.learner.note_progress()

    def copy_learner(self, num_updates: int) -> None:
        """Ask for a copy of the learner's state, without waiting, if one is due after `num_updates` updates."""
        if not self._copies or num_updates - self._last_copy_update >= self._copy_period_updates:
            self._copies.append(self.learner.handle.get_state.remote())
            self._last_copy_update = num_updates

    def learner_state(self) -> dict[str, Any]:
        """The learner's state as it is now, of which a copy is kept. Raises `DeathError`."""
        reference = self.learner.handle.get_state.remote()
        state: dict[str, Any] = self.learner.result_of(reference)
        self._copies.append(reference)
        self._last_copy_update = int(state["num_updates"])
        return state

    def replace_server(self, death: DeathError, num_steps: int, num_updates: int) -> None:
        """Another server, restored from the newest snapshot, in a run that made so many steps and updates.

        No rollout and no update may be under way.
        """
        self.server.replace(death)
        self._casting.load_server(self.server)
        last = self._last_status or self.server.ask("status")
        status: ReplayStatus = self.server.ask("go_on", last.counts, num_steps, num_updates)
        say(f"It holds {status.size:,} of {last.size:,} transitions; rollouts under way are lost.")
        self.pool.connect(ServerLink(self.server.handle))
        self.learner.ask("connect", self._casting.source(self.server.handle))
        self.learner.note_progress()

    def replace_learner(self, death: DeathError, num_updates: int) -> int:
        """Another learner, which goes on from the newest copy; returns its updates, of `num_updates` that were made."""
        copy = self._newest_copy()
        self.learner.replace(death)
        if copy is None:
            made = self._casting.load_learner(self.learner)
        else:
            made = int(copy[1]["num_updates"])
            self.learner.ask("set_state", copy[1])
        self._copies = deque([copy[0]] if copy else [], NUM_COPIES)
        self._last_copy_update = made
        again = max(0, num_updates - made)
        say(f"It goes on from update {made:,}; {again:,} updates and those under way are made again.")
        return made

    def end(self) -> None:
        """End all actors at once."""
        self.pool.kill()
        for place in (self.learner, self.server):
            ray.kill(place.handle)

    def get_state(self) -> dict[str, Any]:
        """Who died so far."""
        return {name: getattr(self, name).get_state() for name in ("server", "learner", "pool")}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on counting from a state."""
        for name, part in state.items():
            getattr(self, name).set_state(part)

    def check_valid(self) -> None:
        """Raise `AssertionError` if the pool disagrees with itself, or a count is below 0."""
        self.pool.check_valid()
        assert min(self.server.num_lost, self.learner.num_lost) >= 0, "counts below 0"

    def _newest_copy(self) -> tuple[ray.ObjectRef, dict[str, Any]] | None:
        """None if they are all lost: with the node that they lay on, or before the first was made."""
        for reference in reversed(self._copies):
            try:
                return reference, ray.get(reference)
            except RayError:
                continue
        return None
