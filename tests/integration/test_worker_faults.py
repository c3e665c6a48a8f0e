"""A fault of the user's that shows only in a Ray worker is told like any other."""

import os
import re
import signal

import numpy as np
import pytest
import ray
import torch

from lapa_ray.actors.cluster import ray_session
from lapa_ray.actors.replaceable import DeathError, LeanedOnDeadError, Replaceable
from lapa_ray.core.config import RayConfig
from lapa_ray.core.errors import LapaError

pytestmark = pytest.mark.shared_ray

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
    for run in (run_task, run_in_data):
        with pytest.raises(LapaError) as error, ray_session(RayConfig()):
            run("user's")
        assert str(error.value) == TWO_LINES
        with pytest.raises(ray.exceptions.RayTaskError, match="ZeroDivisionError"), ray_session(RayConfig()):
            run("ours")
    with pytest.raises(LapaError, match="no disk space"), ray_session(RayConfig()):
        run_task("no space")


@ray.remote(num_cpus=0)
class Unborn:
    """An actor whose creation fails."""

    def __init__(self, kind: str) -> None:
        if kind == "torch":
            torch.empty(2**46)
        if kind == "numpy":
            np.empty(2**46)
        raise ZeroDivisionError

    def call(self) -> None:
        pass


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_an_actor_for_which_memory_is_lacking_says_so_in_a_line(kind):
    with pytest.raises(LapaError) as error:
        Replaceable("learner", lambda: Unborn.remote(kind)).ask("call")
    assert re.match(r"out of memory \((Unable to|can't) allocate .*\); ask for less: ", str(error.value))
    assert len(str(error.value).splitlines()) == 1


def test_an_actor_whose_creation_fails_by_our_fault_is_not_to_be_resumed():
    with pytest.raises(ray.exceptions.ActorDiedError, match="ZeroDivisionError"):
        Replaceable("learner", lambda: Unborn.remote("ours")).ask("call")


def test_a_death_is_told_without_the_colours_of_a_terminal(capfd):
    place = Replaceable("learner", Mortal.remote)
    with pytest.raises(DeathError, match=r"^[^\x1b]+$") as error:
        place.ask("die")
    assert error.value.place is place
    place.replace(error.value)
    assert re.fullmatch(r"The learner died \([^\x1b]+\); another one takes its place\.\n", capfd.readouterr().err)
    with pytest.raises(DeathError):
        place.ask("die")


def test_the_death_of_another_is_told_from_ones_own():
    place = Replaceable("learner", Leaning.remote)
    other = Mortal.remote()
    with pytest.raises(LeanedOnDeadError, match="died unexpectedly"):
        place.ask("lean", other)
    assert place.num_lost == 0
    assert place.ask("stand")


@ray.remote(num_cpus=0)
class Mortal:
    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@ray.remote(num_cpus=0)
class Leaning:
    def lean(self, other) -> None:
        ray.get(other.die.remote())

    def stand(self) -> bool:
        return True
