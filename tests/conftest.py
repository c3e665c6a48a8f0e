"""What all tests share: how they are dealt out where several processes run them (`make test`)."""

import pytest

ORDER = ("integration", "faults", "learning", "golden", "property", "unit")
"""The folders with the longest tests first, so that no process is left with one of them at the end."""


@pytest.hookimpl(tryfirst=True)  # before xdist, which reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses the micro chain goes to one process, which makes it once; of other files each goes to one."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group_of(item)))
    items.sort(key=lambda item: (group_of(item) != "chain", folder_rank(item)))


def group_of(item: pytest.Item) -> str:
    return "chain" if "chain" in getattr(item, "fixturenames", ()) else str(item.path)


def folder_rank(item: pytest.Item) -> int:
    return next((rank for rank, folder in enumerate(ORDER) if folder in item.path.parts), len(ORDER))
