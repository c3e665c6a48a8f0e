"""All processes that a command started, wherever their parents went: those of the session that it was started in."""

import os
import time

import psutil


def processes_of(session: int) -> list[psutil.Process]:
    """Those that live."""
    return [process for process in psutil.process_iter() if _belongs(process, session)]


def _belongs(process: psutil.Process, session: int) -> bool:
    try:
        return os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.Error):
        return False


def left_of(session: int, timeout_s: float) -> list[str]:
    """Titles of those that have not ended by themselves in time; they are killed."""
    end = time.monotonic() + timeout_s
    while (left := processes_of(session)) and time.monotonic() < end:
        time.sleep(0.1)
    return [_killed(process) for process in left]


def _killed(process: psutil.Process) -> str:
    try:
        title = " ".join(process.cmdline())[:200]
        process.kill()
    except psutil.NoSuchProcess:
        return f"process {process.pid}"
    return title
