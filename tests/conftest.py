"""What all tests share: the order in which several processes take the files (`make test`)."""

import os

import pytest

# oneDNN reads this once a process, and float32 tests come first: see lapa_ray/models/bfloat16.py
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

ORDER = ("test_bad_input.py", "integration", "faults", "learning", "golden", "property", "unit")
"""The longest first, so that no process is left with one of them at the end; the first makes the micro chain."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files by `ORDER`."""
    items.sort(key=lambda item: next((rank for rank, name in enumerate(ORDER) if name in item.path.parts), len(ORDER)))
