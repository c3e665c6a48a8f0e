"""All processes that a command started, wherever their parents went: those of the session that it was started in."""

import os
import time
from contextlib import suppress

import psutil

TRIAL = "ray::ImplicitFunc"


def processes_of(session: int) -> list[psutil.Process]:
    """Those that live."""
    return [process for process in psutil.process_iter() if _belongs(process, session)]


def _belongs(process: psutil.Process, session: int) -> bool:
    try:
        return os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.Error):
        return False


def left_of(session: int, timeout_s: float) -> list[str]:
    """Titles of trials that have not ended by themselves in time. All is killed: Ray's agents stay longer."""
    end = time.monotonic() + timeout_s
    while any(_title(process).startswith(TRIAL) for process in processes_of(session)) and time.monotonic() < end:
        time.sleep(0.1)
    titles = [_killed(process) for process in processes_of(session)]
    return [title for title in titles if title.startswith(TRIAL)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""


def _killed(process: psutil.Process) -> str:
    title = _title(process)
    with suppress(psutil.NoSuchProcess):
        process.kill()
    return title
