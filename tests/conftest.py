"""What all tests share: the order in which several processes take the files (`make test`)."""

import pytest

ORDER = ("test_bad_input.py", "integration", "faults", "learning", "golden", "property", "unit")
"""The longest first, so that no process is left with one of them at the end; the first makes the micro chain."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files by `ORDER`."""
    items.sort(key=lambda item: next((rank for rank, name in enumerate(ORDER) if name in item.path.parts), len(ORDER)))
