"""Locks hold against other processes, not against this one, and end with the process whatever ended it."""

import os
import signal
import subprocess
import sys

import pytest

from lapa_ray.core import locks

HOLDER = """
import sys, time
from pathlib import Path
from lapa_ray.core import locks
print(locks.hold(Path(sys.argv[1])), flush=True)
time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that asked for the folder; returns what it was told."""
    started = []

    def start() -> tuple[bool, subprocess.Popen[str]]:
        process = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process.stdout.readline().strip() == "True", process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_one_process_at_a_time(tmp_path, other):
    assert locks.hold(tmp_path)
    assert locks.hold(tmp_path), "again in the same process"
    assert not other()[0]
    locks.release(tmp_path)
    assert not locks.is_held(tmp_path)
    held, process = other()
    assert held
    assert not locks.hold(tmp_path)
    assert not locks.is_held(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert locks.hold(tmp_path)
    locks.release(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_made_anew_is_another_one(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    assert locks.hold(folder)
    folder.rmdir()
    assert not locks.is_held(folder)
    folder.mkdir()
    assert not locks.is_held(folder)
    assert locks.hold(folder)
    assert locks.is_held(folder)
    locks.release(folder)
    locks.release(folder)
