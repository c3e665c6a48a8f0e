"""A side of a benchmark in a process of its own, so that none has what another one sets for its process.

A number in, a line of JSON out. Between the two the process waits for its next line and takes no core.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

TimesOf = Callable[[int], list[float]]
"""When each of so many updates ended, those of the warm-up before them, s."""
GIVEN = dict(os.environ)
"""What the benchmark was started with, but for what modules that were imported before this one added."""


class SideProcess:
    """Runs `python -m ARGUMENTS`, which is to `serve`; a context manager that ends it."""

    def __init__(self, *arguments: str) -> None:
        self._name = " ".join(arguments)
        command = [sys.executable, "-m", *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=GIVEN, bufsize=1
        )

    def times(self, num_updates: int) -> list[float]:
        """What the process answers; ends the benchmark if it has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{num_updates}\n")
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._name}: ended with exit code {self._process.wait()}.")
        times: list[float] = json.loads(line)
        return times

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.terminate()  # it may be at work
        with suppress(BrokenPipeError):
            self._process.communicate()


def serve(times_of: TimesOf) -> None:
    """Answer until there are no more questions."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # whatever a library prints is no answer
        for line in sys.stdin:
            print(json.dumps(times_of(int(line))), file=answers, flush=True)
