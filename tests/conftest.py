"""What all tests share: the order in which several processes take the files (`make test`), and one Ray a process."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lapa_ray.models.device import CPU_INSTRUCTIONS

FIRST = ("test_bad_input.py", "test_ray_train.py")
"""The longest, so that no process is left with one of them at the end. The first makes the micro chain, which others
use: they come when it is there."""
ORDER = ("faults", "integration", "learning", "golden", "property", "unit")
"""What comes after them and after all that use the shared Ray."""

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every command that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
# oneDNN reads it once a process, and tests that ask for no device may come first.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", CPU_INSTRUCTIONS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> tuple[int, int]:
    parts = item.path.parts
    first = next((rank for rank, name in enumerate(FIRST) if name in parts), len(FIRST))
    if item.get_closest_marker("shared_ray"):
        return first, -1
    return first, next((rank for rank, name in enumerate(ORDER) if name in parts), len(ORDER))


RUNNING_RAY = ExitStack()


@pytest.fixture(scope="module", autouse=True)
def shared_ray(request: pytest.FixtureRequest) -> None:
    """Files that are marked `shared_ray` find a Ray of two cores, kept from one to the next: a start takes seconds.

    Their commands join it. The others find none.
    """
    if request.node.get_closest_marker("shared_ray") is None:
        RUNNING_RAY.close()
        return
    import ray

    from lapa_ray.actors.cluster import ray_session
    from lapa_ray.core.config import RayConfig

    if not ray.is_initialized():
        RUNNING_RAY.enter_context(ray_session(RayConfig(num_cpus=2, object_store_mb=100)))


@pytest.fixture(scope="session", autouse=True)
def ray_stopped_at_last() -> Iterator[None]:
    """Whatever came last."""
    yield
    RUNNING_RAY.close()
