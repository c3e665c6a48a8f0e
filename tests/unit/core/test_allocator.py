"""Memory that arrays leave is taken again by the next ones, without new pages from the system."""

import subprocess
import sys

import pytest

COUNT = """
import resource, sys
from lapa_ray.core.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        del [b"x" * (20 * 2**20) for _ in range(6)][:]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

assert "keep" not in sys.argv or keep_freed_memory()
faults()
print(faults())
"""


def page_faults(*arguments: str) -> int:
    done = subprocess.run([sys.executable, "-c", COUNT, *arguments], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone has the setting")
def test_large_arrays_take_no_new_pages():
    plain, kept = page_faults(), page_faults("keep")
    assert plain > 10 * 6 * 20 * 2**20 / 4096 / 2, "ten times 120 MB, in pages of 4 kB"
    assert kept < plain / 20
