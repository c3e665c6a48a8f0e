"""An actor that a run has one of and cannot do without: it is asked here, and replaced when it dies. In the driver.

It knows nothing of what the actor does: who replaces it brings its successor to where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayTaskError

from lapa_ray.actors.faults import (
    DEATHS,
    MAX_DEATHS_IN_A_ROW,
    check_created,
    fault_of,
    leans_on_dead,
    named_fault,
    reason_of,
    say,
)
from lapa_ray.core.errors import LapaError


class DeathError(Exception):
    """The holder of a place died while it was asked for something; its message is the reason."""

    def __init__(self, place: Replaceable, reason: str) -> None:
        super().__init__(reason)
        self.place = place


class LeanedOnDeadError(Exception):
    """A call failed since another actor, which it leant on, died or was out of reach; its message is the reason."""


class Replaceable:
    """The place of one actor, and the handle of who holds it."""

    def __init__(self, name: str, start: Callable[[], Any]) -> None:
        """`start` → the handle of a new actor, in its first state."""
        self.name, self._start = name, start
        self.handle = start()
        self.num_lost = 0
        self._failures_in_a_row = 0

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method and wait for its result; raises as `result_of` does."""
        return self.result_of(getattr(self.handle, method).remote(*arguments))

    def result_of(self, reference: ray.ObjectRef) -> Any:
        """The result of a call of this actor.

        Raises `DeathError` if the actor died, `LeanedOnDeadError` if another one did, `LapaError` for a fault of the
        user's and `RayTaskError` for one of ours.
        """
        try:
            return ray.get(reference)
        except RayTaskError as error:
            if leans_on_dead(error) and named_fault(error) is None:
                raise LeanedOnDeadError(reason_of(error.cause)) from error
            raise fault_of(error, self.name) from error
        except DEATHS as error:
            check_created(error)
            raise DeathError(self, reason_of(error)) from error

    def replace(self, death: DeathError) -> None:
        """Put another actor in the place of the dead one. Raises `LapaError` if that was done too often in a row."""
        self.num_lost += 1
        self.note_failure("died", str(death))
        say(f"The {self.name} died ({death}); another one takes its place.")
        ray.kill(self.handle)  # one that is merely out of reach must not come back beside its successor
        self.handle = self._start()

    def note_failure(self, what: str, reason: str) -> None:
        """Count that it `died`, or what else it did, for `reason`. Raises `LapaError` after too many in a row."""
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= MAX_DEATHS_IN_A_ROW:
            raise LapaError(
                f"the {self.name} {what} {self._failures_in_a_row} times in a row ({reason}); mend what is behind it, "
                "then add --resume to continue from the last checkpoint."
            )

    def note_progress(self) -> None:
        """It did what it is there for: failures before are not of a row with later ones."""
        self._failures_in_a_row = 0

    def get_state(self) -> dict[str, int]:
        """How many died in this place."""
        return {"num_lost": self.num_lost}

    def set_state(self, state: dict[str, int]) -> None:
        """Go on counting from a state."""
        self.num_lost = int(state["num_lost"])
