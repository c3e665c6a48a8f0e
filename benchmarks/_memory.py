"""Memory of a process and all that it started, sampled by a thread. Knows nothing of what the processes do."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import psutil

PERIOD_S = 0.25


def tree_bytes(pid: int) -> int:
    """Memory of process `pid` and its descendants, bytes: shared pages are divided among those that share them (PSS).

    Where the system tells no PSS (macOS), private pages alone count (USS). Processes that end meanwhile count as none.
    """
    try:
        root = psutil.Process(pid)
        return sum(_bytes(process) for process in (root, *root.children(recursive=True)))
    except psutil.NoSuchProcess:
        return 0


def _bytes(process: psutil.Process) -> int:
    try:
        memory = process.memory_full_info()
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return 0
    return int(getattr(memory, "pss", 0) or memory.uss)


class PeakMemory:
    """Samples the tree of `pid` every 0.25 s and keeps the greatest by phase. A context manager."""

    def __init__(self, pid: int) -> None:
        self.peaks: dict[str, int] = {}
        self.phase = ""
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            phase, now = self.phase, tree_bytes(self._pid)
            self.peaks[phase] = max(self.peaks.get(phase, 0), now)
            if self._stop.wait(PERIOD_S):
                return
