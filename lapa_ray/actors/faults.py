"""Faults that happen in Ray's workers → what they mean to the run, or the error that the user can mend.

Ray wraps, pickles and retells them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ray.exceptions import ObjectLostError, RayActorError, RayError, RayTaskError

from lapa_ray.core.errors import DivergedError, LapaError, NoRoomError
from lapa_ray.core.files import NO_ROOM

_LAPA_ERROR = re.compile(
    r"lapa_ray\.core\.errors\.\w*LapaError: (.+(?:\n(?!\s|$|The above|During handling|Traceback).+)?)"
)
_NO_SPACE = re.compile(r"OSError: (\[Errno (?:28|122)\][^\n]*)")

_NO_MEMORY = re.compile(
    r"Unable to allocate [^\n]*|[Cc]an't allocate memory[^\n]*|CUDA out of memory[^.\n]*|\bMemoryError\b"
)
"""As NumPy, torch on a CPU, torch on a GPU and Python say it."""
_ENVIRONMENT = re.compile(r"lapa_ray\.actors\.faults\.EnvironmentFault: ([^\n]+)")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")

DEATHS = (RayActorError, ObjectLostError)
MAX_DEATHS_IN_A_ROW = 5
"""Deaths without progress between them after which a run gives up: something kills whoever takes the place."""


class EnvironmentFault(Exception):  # noqa: N818
    """An environment raised something; its text is the type and the message of that."""


@contextmanager
def worker_faults_named() -> Iterator[None]:
    """Raise the `LapaError` that a worker raised instead of Ray's wrapping of it; other errors pass as they are."""
    try:
        yield
    except RayError as error:
        named = named_fault(error)
        if named is None:
            raise
        raise named from error


def named_fault(error: BaseException) -> LapaError | None:
    """The fault of the user's inside `error`, or None."""
    inside: BaseException | None = error
    while inside is not None:
        if isinstance(inside, LapaError) and not isinstance(inside, RayError):  # Ray makes classes that are both
            return DivergedError(str(inside)) if isinstance(inside, DivergedError) else LapaError(str(inside))
        if isinstance(inside, OSError) and inside.errno in NO_ROOM:
            return _no_space(str(inside))
        inside = getattr(inside, "cause", None) or inside.__cause__
    text = plain(error)
    if found := _LAPA_ERROR.search(text):
        return LapaError(found[1])
    if found := _NO_SPACE.search(text):
        return _no_space(found[1])
    if found := _NO_MEMORY.search(text):
        return LapaError(
            f"out of memory ({found[0]}); ask for less: fewer workers, or a smaller network, batch or replay.capacity."
        )
    return None


def leans_on_dead(error: RayTaskError) -> bool:
    """Whether the call failed for the death of another actor that it leant on."""
    return isinstance(error.cause, DEATHS)


def environment_fault(error: BaseException) -> str | None:
    """What an environment raised, if that is behind `error`."""
    found = _ENVIRONMENT.search(plain(error))
    return found[1] if found else None


def fault_of(error: RayTaskError, who: str) -> Exception:
    """What to raise for an exception in `who`, where nobody else's death is behind it."""
    if named := named_fault(error):
        return named
    error.add_note(f"in {who}: this is a fault of lapa_ray")
    return error


def check_created(error: Exception) -> None:
    """Raise what is to be told of `error`, a death, if the actor could not be made, or died of what the user can mend.

    A fault of ours in its making would be met again by whoever takes its place.
    """
    if named := named_fault(error):
        raise named from error
    if getattr(error, "actor_init_failed", False):
        raise error


def reason_of(error: BaseException) -> str:
    """The first line of what `error` says, without its full stop."""
    lines = [line.strip() for line in plain(error).splitlines() if line.strip()]
    return lines[0].rstrip(".:") if lines else type(error).__name__


def say(text: str) -> None:
    """Tell the user what happened and what is done about it."""
    print(text, file=sys.stderr, flush=True)


def plain(error: BaseException) -> str:
    """What `error` says, without the colours that Ray gives it for a terminal."""
    return _COLOUR.sub("", str(error))


def _no_space(reason: str) -> LapaError:
    return NoRoomError(f"no disk space ({reason}); nothing finished was harmed. Make room, then add --resume.")
