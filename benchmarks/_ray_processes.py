"""What Ray's own processes take of the cores while one of its workers trains.

Asked in that worker: all that the driver started, and the driver, but for the worker itself.
"""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil

SCRIPTS = ("log_monitor.py", "monitor.py", "dashboard.py")
"""Processes of Ray's that go by the name of the interpreter."""


class RayProcesses:
    """The processes around this worker, from now on."""

    def __init__(self, worker: psutil.Process, driver: psutil.Process) -> None:
        self._worker, self._driver = worker, driver
        self._start, self._before = time.perf_counter(), self._seconds()

    @classmethod
    def here(cls) -> Self:
        """Of the worker that asks: its parent is the raylet, whose parent is the driver."""
        worker = psutil.Process()
        raylet = worker.parent()
        driver = None if raylet is None else raylet.parent()
        if driver is None:
            raise SystemExit("this process is no worker of a local Ray.")
        return cls(worker, driver)

    def shares(self) -> dict[str, float]:
        """Seconds of a core that each kind of process took a second since the start; those that began or ended
        meanwhile are left out.
        """
        elapsed, shares = time.perf_counter() - self._start, defaultdict[str, float](float)
        for process, seconds in self._seconds().items():
            if process in self._before:
                shares[_kind(process)] += (seconds - self._before[process]) / elapsed
        return dict(shares)

    def _seconds(self) -> dict[psutil.Process, float]:
        """CPU seconds of each so far."""
        taken: dict[psutil.Process, float] = {}
        for process in (self._driver, *self._driver.children(recursive=True)):
            if process == self._worker:
                continue
            with suppress(psutil.NoSuchProcess):
                times: Any = process.cpu_times()
                taken[process] = times.user + times.system
        return taken


def _kind(process: psutil.Process) -> str:
    """What Ray calls the process; a process that has ended meanwhile is nameless."""
    with suppress(psutil.NoSuchProcess):
        command: list[str] = process.cmdline()
        for part in command[:3]:
            if Path(part).name in SCRIPTS:
                return Path(part).stem
        return str(process.name()).removeprefix("ray::")
    return "ended"
