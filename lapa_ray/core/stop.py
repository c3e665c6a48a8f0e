"""Ctrl-C and SIGTERM as a request: the running loop looks at it, saves a checkpoint and ends by itself."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SAVING = "Stopping: saving a checkpoint (again to stop at once) ..."
STOPPING = "Stopping (again to stop at once) ..."
"""For work that keeps nothing, or what it has finished anyway."""


class StopRequest:
    """Set by the first Ctrl-C or SIGTERM; the second one interrupts at once."""

    def __init__(self, said: str = SAVING) -> None:
        self._event = threading.Event()
        self._said = said

    def __bool__(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        """Ask the running loop to end."""
        self._event.set()

    def _handle(self, _signal: int, _frame: object) -> None:
        if self._event.is_set():
            raise KeyboardInterrupt
        self._event.set()
        print(f"\n{self._said}", file=sys.stderr, flush=True)


@contextmanager
def stop_on_signal(*signals: signal.Signals, said: str = SAVING) -> Iterator[StopRequest]:
    """Handle `signals` (SIGINT and SIGTERM if none are given) as a `StopRequest` inside the block, and say so.

    Only in the main thread, where signals arrive.
    """
    request = StopRequest(said)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {name: signal.signal(name, request._handle) for name in signals or (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
