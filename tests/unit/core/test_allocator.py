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


LEFT = """
import resource
from lapa_ray.core.allocator import give_back_memory, keep_freed_memory

class Holder:
    def __init__(self):
        self.itself, self.blocks = self, [b"x" * 2**20 for _ in range(200)]

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

keep_freed_memory()
before = resident()
Holder()
held = resident() - before
give_back_memory()
print(held, resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone has the setting")
def test_what_hangs_in_a_cycle_is_given_back_when_asked():
    done = subprocess.run([sys.executable, "-c", LEFT], capture_output=True, text=True, check=True)
    held, left = map(int, done.stdout.split())
    assert held > 190 * 2**20
    assert left < 20 * 2**20
