"""Locks on folders: only one process at a time writes an artefact.

The kernel holds them, on the folder itself: no file is left behind, and a process that was killed holds none.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

_held: dict[Path, int] = {}
"""Folder → descriptor, of this process."""


def hold(folder: Path) -> bool:
    """Hold `folder`, which is there, until `release` or the end of this process; False if another process holds it.

    To hold it again is no fault. On a filesystem that has no locks every process is given it.
    """
    if is_held(folder):
        return True
    release(folder)  # of its name, but gone
    descriptor = os.open(folder, os.O_RDONLY)  # not inherited by programs that this one starts
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    except OSError:
        os.close(descriptor)
        return True
    _held[folder.resolve()] = descriptor
    return True


def is_held(folder: Path) -> bool:
    """Whether this process holds `folder`: this very one, not one of its name that was there before."""
    descriptor = _held.get(folder.resolve())
    return descriptor is not None and folder.exists() and os.path.samestat(os.fstat(descriptor), folder.stat())


def release(folder: Path) -> None:
    """Give `folder` back; no fault if it is not held."""
    descriptor = _held.pop(folder.resolve(), None)
    if descriptor is not None:
        os.close(descriptor)
