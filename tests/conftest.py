"""What all tests share: the order in which several processes take the files (`make test`)."""

import os
import signal

import pytest

from lapa_ray.models.device import CPU_INSTRUCTIONS

ORDER = ("test_bad_input.py", "test_ray_train.py", "faults", "integration", "learning", "golden", "property", "unit")
"""The longest first, so that no process is left with one of them at the end. The first makes the micro chain, which
others of `integration` use: they come when it is there."""

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every command that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
# oneDNN reads it once a process, and tests that ask for no device may come first.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", CPU_INSTRUCTIONS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files by `ORDER`."""
    items.sort(key=lambda item: next((rank for rank, name in enumerate(ORDER) if name in item.path.parts), len(ORDER)))
