"""Ctrl-C and SIGTERM while Ray starts: nothing half-started stays, and no request is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lapa_ray.actors.cluster import ray_session
from lapa_ray.core.config import RayConfig
from lapa_ray.core.stop import stop_on_signal

SMALL = RayConfig(num_cpus=1, object_store_mb=80)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


def test_a_ctrl_c_while_ray_starts_leaves_neither_files_nor_processes(tmp_path):
    """SIGINT to the whole process group, as a terminal sends it."""
    out = tmp_path / "frames"
    command = ["record", "--agent=random", f"--out={out}", "--ray.object_store_mb=80"]
    with subprocess.Popen(
        [sys.executable, "-m", "lapa_ray.cli", *command],
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for(out / "run.json", process)
        started = children_when_there_are_any(process)
        os.killpg(process.pid, signal.SIGINT)
        out_text, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "lapa-ray record: stopped; nothing was made yet, so nothing is left of it."
    assert [line for line in err.splitlines() if line and not line.startswith(("Stopping once", "lapa-ray"))] == []
    assert out_text == ""
    assert list(tmp_path.iterdir()) == []
    assert psutil.wait_procs(started, timeout=30)[1] == []


def children_when_there_are_any(process: subprocess.Popen) -> list[psutil.Process]:
    """The first processes of Ray."""
    while not (children := psutil.Process(process.pid).children(recursive=True)):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    return children


def test_ray_does_not_take_the_signals_of_a_stage_that_runs():
    """Ray sets a handler of its own, which would end the stage without a checkpoint where `ray job stop` asks."""
    with stop_on_signal() as stop, ray_session(SMALL):
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
