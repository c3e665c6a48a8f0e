"""Faults that happen in Ray's workers → the error that the user can mend. Ray wraps, pickles and retells them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ray.exceptions import RayError

from lapa_ray.core.errors import LapaError, NoRoomError
from lapa_ray.core.files import NO_ROOM

_LAPA_ERROR = re.compile(
    r"lapa_ray\.core\.errors\.\w*LapaError: (.+(?:\n(?!\s|$|The above|During handling|Traceback).+)?)"
)
_NO_SPACE = re.compile(r"OSError: (\[Errno (?:28|122)\][^\n]*)")

_NO_MEMORY = re.compile(
    r"Unable to allocate [^\n]*|[Cc]an't allocate memory[^\n]*|CUDA out of memory[^.\n]*|\bMemoryError\b"
)
"""As NumPy, torch on a CPU, torch on a GPU and Python say it."""
_COLOUR = re.compile(r"\x1b\[[\d;]*m")


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
            return LapaError(str(inside))
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


def plain(error: BaseException) -> str:
    """What `error` says, without the colours that Ray gives it for a terminal."""
    return _COLOUR.sub("", str(error))


def _no_space(reason: str) -> LapaError:
    return NoRoomError(f"no disk space ({reason}); nothing finished was harmed. Make room, then add --resume.")
