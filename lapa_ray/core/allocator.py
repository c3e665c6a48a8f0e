"""The C library's memory: what large arrays leave is kept for the next ones, not given back to the system.

glibc gives the end of its heap back once twice the largest block so far lies free there (mallopt(3)). Each update of a
network on the CPU then takes new pages for much of what it allocates, which the kernel clears first.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Any

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Parameters of mallopt(3), malloc.h."""
LARGEST_KEPT = 32 * 1024**2
"""Bytes; glibc takes no higher threshold. Larger blocks are mapped as before."""
MOST_KEPT = 2**31 - 1
"""Bytes at the end of the heap that may lie unused."""
GROWTH = 64 * 1024**2
"""Bytes by which the heap grows beyond what is asked for."""


def keep_freed_memory() -> bool:
    """Keep blocks of up to 32 MB for this process until it ends; whether that could be said (glibc alone knows it)."""
    mallopt = _of_glibc("mallopt")
    if mallopt is None:
        return False
    given = ((MMAP_THRESHOLD, LARGEST_KEPT), (TRIM_THRESHOLD, MOST_KEPT), (TOP_PAD, GROWTH))
    return min(mallopt(parameter, value) for parameter, value in given) == 1


def give_back_memory() -> None:
    """Between two pieces of work in a process: what the first left, in cycles and on the heap, is the system's again.

    Python looks for cycles by how many objects there are, not by their bytes: a training's pictures may hang in one
    for many trainings.
    """
    gc.collect()
    malloc_trim = _of_glibc("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _of_glibc(name: str) -> Any:
    """A function of the C library, None where it has none of this name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
