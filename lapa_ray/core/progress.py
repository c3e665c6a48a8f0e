"""Progress of long work: a bar with rate and time left on a terminal, one line every 10 s elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from lapa_ray.core.errors import LapaError

LINE_PERIOD_S = 10.0


class Progress:
    """Counts `total` units of work up from `initial`. Use as a context manager."""

    def __init__(self, label: str, total: int, unit: str, *, initial: int = 0) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._done = self._initial = initial
        self._note = ""
        self._printed: int | None = None
        self._start = self._last_line = time.monotonic()
        self._bar = _Bar(label, total, initial) if sys.stderr.isatty() else None

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` units more, 0 to show that time passes; `note` is shown behind the rate until the next one."""
        self.advance_to(self._done + count, note)

    def advance_to(self, done: int, note: str = "") -> None:
        """Set the count to `done`."""
        self._done = done
        self._note = note or self._note
        if self._bar is not None:
            self._bar.update(done, f"{self._rate_text()}  {self._note}")
        elif time.monotonic() - self._last_line >= LINE_PERIOD_S:
            self._print_line()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._printed != self._done and self._has_news(error):
            self._print_line()

    def _has_news(self, error: BaseException | None) -> bool:
        """Whether the last count is worth a line: bad input is told alone, unless lines went before it."""
        if isinstance(error, LapaError):
            return self._printed is not None
        return error is None or self._done > self._initial

    def _rate(self) -> float:
        return (self._done - self._initial) / max(time.monotonic() - self._start, 1e-9)

    def _rate_text(self) -> str:
        rate = self._rate()
        return f"{rate:,.4g} {self._unit}/s" if rate >= 1 else f"{60 * rate:,.3g} {self._unit}/min"

    def _print_line(self) -> None:
        self._last_line, self._printed = time.monotonic(), self._done
        rate = self._rate()
        left = f", {(self._total - self._done) / rate:.0f} s left" if rate and self._done < self._total else ""
        note = f"  {self._note}" if self._note else ""
        line = f"{self._label}: {self._done:,}/{self._total:,} {self._unit}, {self._rate_text()}{left}{note}"
        print(line, file=sys.stderr, flush=True)


class _Bar:
    """The bar of a terminal."""

    def __init__(self, label: str, total: int, initial: int) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = RichProgress(*columns, console=Console(stderr=True))
        self._task: TaskID = self._progress.add_task(label, total=total, completed=initial, note="")
        self._progress.start()

    def update(self, done: int, note: str) -> None:
        self._progress.update(self._task, completed=done, note=note)

    def close(self) -> None:
        self._progress.stop()
