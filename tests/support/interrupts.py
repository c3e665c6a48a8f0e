"""A Ctrl-C at a chosen point of a stage that runs in this process."""

import os
import signal
from collections.abc import Callable

import pytest

from lapa_ray.core.progress import Progress


def interrupt_when(monkeypatch: pytest.MonkeyPatch, method: str, condition: Callable[..., bool]) -> None:
    """Send this process a Ctrl-C the first time that a stage calls `method` of its progress and meets the condition."""
    plain = getattr(Progress, method)
    sent = []

    def with_interrupt(progress, *arguments, **options):
        plain(progress, *arguments, **options)
        if not sent and condition(*arguments):
            sent.append(os.kill(os.getpid(), signal.SIGINT))

    monkeypatch.setattr(Progress, method, with_interrupt)
