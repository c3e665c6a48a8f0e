"""Files that are whole or not there: everything is written beside its name and renamed into place."""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEMPORARY_PREFIX = ".tmp-"
"""Names that start so are half-written leftovers: readers pass over them, writers may delete them."""
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the operating system says where a disk, or the user's share of it, is full."""
PROBE_BYTES = 2**20


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to `path` on success, delete it on any error.

    Raises `OSError` with one of `NO_ROOM` and `path` where a write failed for want of room, whatever the writer said.
    """
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        flush_to_disk(temporary)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        if number := _lack_of_room(error, temporary):
            raise OSError(number, os.strerror(number), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, by rename."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, by rename."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder in `folder` for what one run has half-written, and delete it at the end.

    Processes that outlive their run for a while lose it, and with it the way to put anything in place, as soon as the
    next run calls `remove_leftovers`.
    """
    path = folder / f"{TEMPORARY_PREFIX}run-{uuid.uuid4().hex[:8]}"
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Delete what killed processes left half-written anywhere below `folder`.

    A process that is not quite dead yet can then no longer put its file in place.
    """
    for path in list(folder.rglob(f"{TEMPORARY_PREFIX}*")):
        if path.is_dir():
            gone = path.rename(path.with_name(f"{path.name}-{os.getpid()}"))  # at once, whatever is done in it
            shutil.rmtree(gone)
        else:
            path.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Have the operating system write the bytes of `path` to the disk before it is renamed into place."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _lack_of_room(error: OSError | RuntimeError, temporary: Path) -> int | None:
    """Which of `NO_ROOM` is behind `error`, if any. torch.save hides it in a RuntimeError, np.save leaves it out."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in NO_ROOM else None
    try:
        with temporary.open("ab", buffering=0) as file:  # free space as told by the system knows of no quota
            for _ in range(PROBE_BYTES // 2**12):
                file.write(bytes(2**12))
            os.fsync(file.fileno())
    except OSError as refused:
        return refused.errno if refused.errno in NO_ROOM else None
    return None
