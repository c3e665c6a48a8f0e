"""A fault of the user's that shows only in a Ray worker is told like any other."""

import pytest
import ray

from lapa_ray.actors.cluster import ray_session
from lapa_ray.core.config import RayConfig
from lapa_ray.core.errors import LapaError

TWO_LINES = "frames-00000.parquet: corrupt shard; restore it.\nOr record it again."


@ray.remote(num_cpus=0)
def task(kind: str) -> None:
    if kind == "user's":
        raise LapaError(TWO_LINES)
    if kind == "no space":
        raise OSError(28, "No space left on device")
    raise ZeroDivisionError


def run_task(kind: str) -> None:
    ray.get(task.remote(kind))


def run_in_data(kind: str) -> None:
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.data.range(1).map(lambda row: run_locally(kind)).materialize()


def run_locally(kind: str) -> None:
    raise LapaError(TWO_LINES) if kind == "user's" else ZeroDivisionError()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Data warns of its own defaults
def test_faults_of_workers_are_named():
    with ray_session(RayConfig(num_cpus=1, object_store_mb=80)):
        for run in (run_task, run_in_data):
            with pytest.raises(LapaError) as error, ray_session(RayConfig()):
                run("user's")
            assert str(error.value) == TWO_LINES
            with pytest.raises(ray.exceptions.RayTaskError, match="ZeroDivisionError"), ray_session(RayConfig()):
                run("ours")
        with pytest.raises(LapaError, match="no disk space"), ray_session(RayConfig()):
            run_task("no space")
