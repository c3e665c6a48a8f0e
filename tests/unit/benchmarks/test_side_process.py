"""A side of a benchmark in a process of its own: questions and answers, and what ends it."""

import os
import sys

import pytest

from benchmarks import _side_process
from benchmarks._side_process import SideProcess

ECHO = """
import os
from benchmarks._side_process import serve

def times_of(num_updates):
    print("a library's banner")
    if not num_updates:
        os._exit(3)
    return [0.5 * num_updates, float(os.getpid())]

serve(times_of)
"""


def test_it_answers_from_one_process_and_ends_with_its_block(tmp_path, monkeypatch):
    module(tmp_path, monkeypatch)
    with SideProcess("echo_side") as side:
        (half, pid), (one, other_pid) = side.times(1), side.times(2)
    assert (half, one) == (0.5, 1.0)
    assert pid == other_pid != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_a_side_that_ends_early_ends_the_benchmark_with_its_exit_code(tmp_path, monkeypatch):
    module(tmp_path, monkeypatch)
    with SideProcess("echo_side") as side, pytest.raises(SystemExit, match=r"^echo_side: ended with exit code 3\.$"):
        side.times(0)


def module(folder, monkeypatch):
    """`python -m echo_side`, beside the benchmarks that are imported here."""
    (folder / "echo_side.py").write_text(ECHO)
    monkeypatch.setitem(_side_process.GIVEN, "PYTHONPATH", os.pathsep.join([str(folder), *filter(None, sys.path)]))
