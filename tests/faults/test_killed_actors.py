"""SIGKILL of workers, replay server and learner, on real Ray with the counter environment.

The assertion is the same as without faults: `check_run`. Who dies, and at which of its steps, is chosen; when that is
for the others is left to chance.
"""

from __future__ import annotations

import random
from functools import partial

import pytest
import ray

from lapa_ray.actors import replaceable, worker_pool
from lapa_ray.actors.cluster import ray_session
from lapa_ray.actors.episode_blocks import EPISODES_PER_BLOCK
from lapa_ray.core.config import RayConfig
from lapa_ray.core.errors import LapaError
from lapa_ray.dataset.shards import read_shards, shard_paths
from tests.support.counter_env import CounterEnv
from tests.support.probe import Deaths, DyingEnv, FailingEnv, MortalEnv, Mortality
from tests.support.probe_loop import (
    LENGTH,
    MIN_SIZE,
    NUM_ENVS,
    NUM_WORKERS,
    ROLLOUT_STEPS,
    check_run,
    check_told,
    loops,
)

CAPACITY = 300


@pytest.fixture(scope="module", autouse=True)
def ray_running():
    with ray_session(RayConfig(num_cpus=2, object_store_mb=100)):
        yield


@pytest.fixture
def make_loop(tmp_path):
    with loops(tmp_path) as make:
        yield make


def some(generator: random.Random, count: int, low: int, high: int) -> list[int]:
    return [generator.randint(low, high) for _ in range(count)]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_run_in_which_everyone_is_killed_again_and_again_ends_like_any_other(make_loop, tmp_path, capfd, seed):
    generator = random.Random(seed)
    deaths = {
        "worker": Deaths(some(generator, 2, 20, 300), tmp_path / "workers"),
        "server": Deaths(some(generator, 2, 1, 60), tmp_path / "servers"),
        "learner": Deaths(some(generator, 2, 1, 90), tmp_path / "learners"),
    }
    loop = make_loop(
        partial(DyingEnv, LENGTH, deaths["worker"]),
        capacity=CAPACITY,
        use_per=bool(seed),
        server={"mortality": deaths["server"]},
        learner={"mortality": deaths["learner"]},
        checkpoint_period_updates=90,
    )
    loop.run()
    check_run(loop)
    crew = loop.crew
    assert (crew.server.num_lost, crew.learner.num_lost) == (deaths["server"].count, deaths["learner"].count) == (2, 2)
    assert crew.pool.num_lost == deaths["worker"].count == 2
    assert loop.counters.num_redone_updates <= 2 * (20 + 50), "more than a copy period and a report a death"
    check_told(loop, capfd.readouterr().err)


def test_a_server_comes_back_with_all_that_its_last_checkpoint_held(make_loop, capfd):
    loop = make_loop(partial(CounterEnv, LENGTH), checkpoint_period_updates=40)
    save, seen = loop.save, {}

    def save_and_look() -> None:
        save()
        seen.setdefault("saved", loop.held())

    def kill_once() -> None:
        if "saved" in seen and "before" not in seen and loop.counters.num_steps > len(seen["saved"]) + 100:
            seen["before"] = loop.held()
            ray.kill(loop.server)
        elif loop.crew.server.num_lost and "after" not in seen:
            seen["after"] = loop.held()

    loop.save = save_and_look
    loop.run(on_progress=kill_once)
    check_run(loop)
    check_told(loop, capfd.readouterr().err)
    saved, before, after = (set(seen[name]) for name in ("saved", "before", "after"))
    assert len(before - saved) >= 100
    assert saved <= after, "something of the checkpoint is lost"
    assert before - after <= before - saved, "more is lost than came in since the checkpoint"
    assert loop.supervisor.get_state()["crew"]["server"] == {"num_lost": 1}
    status = ray.get(loop.server.status.remote())
    assert status.num_extra_inserts == 0
    # Streams that the old server knew go on as new ones: their first stacks are not made up.
    assert status.num_skipped <= NUM_WORKERS * NUM_ENVS * 4


def test_a_server_without_a_checkpoint_fills_anew_with_steps_on_top(make_loop, capfd):
    loop = make_loop(partial(CounterEnv, LENGTH))

    def kill_once() -> None:
        if loop.counters.num_updates > 100 and not loop.crew.server.num_lost:
            ray.kill(loop.server)

    loop.run(on_progress=kill_once)
    check_run(loop)
    check_told(loop, capfd.readouterr().err)
    extra = ray.get(loop.server.status.remote()).num_extra_inserts
    num_skipped, overshoot = NUM_WORKERS * NUM_ENVS * 4, NUM_WORKERS * NUM_ENVS * ROLLOUT_STEPS
    assert MIN_SIZE <= extra <= MIN_SIZE + num_skipped + overshoot


def test_a_killed_worker_is_replaced_and_what_it_sent_is_whole(make_loop, tmp_path, capfd):
    gameplay = tmp_path / "gameplay"
    gameplay.mkdir()
    make_env = partial(MortalEnv, LENGTH, at=200, grave=tmp_path / "grave")
    loop = make_loop(make_env, frames_folder=gameplay)
    loop.run()
    check_run(loop)
    check_told(loop, capfd.readouterr().err)
    assert loop.num_deaths == loop.crew.pool.num_lost == 1
    assert ray.get(loop.server.status.remote()).num_skipped == 0
    # Two blocks more than without the death; what the dead worker sent is still whole, step by step.
    for steps in loop.episodes().values():
        assert steps == list(range(1, steps[-1] + 1))
    _, episodes = read_shards(shard_paths(gameplay))
    assert {episode // EPISODES_PER_BLOCK for episode in episodes} < set(range((NUM_WORKERS + 1) * NUM_ENVS))


@pytest.mark.parametrize("who", ["replay server", "learner", "rollout workers"])
def test_those_who_always_die_end_the_run_by_name(make_loop, monkeypatch, capfd, who):
    for module in (replaceable, worker_pool):
        monkeypatch.setattr(module, "MAX_DEATHS_IN_A_ROW", 2)
    always = {"mortality": Mortality(1, None)}
    make_env = partial(MortalEnv, LENGTH, at=3, grave=None) if who == "rollout workers" else partial(CounterEnv, LENGTH)
    loop = make_loop(
        make_env,
        capacity=MIN_SIZE,
        server=always if who == "replay server" else None,
        learner=always if who == "learner" else None,
    )
    with pytest.raises(LapaError, match=rf"^(the )?{who} died 2 times in a row \(.*\); .*--resume") as error:
        loop.run(num_workers=1)
    assert len(str(error.value).splitlines()) == 1


def test_an_environment_that_raises_starts_other_episodes(make_loop, tmp_path, capfd):
    gameplay = tmp_path / "gameplay"
    gameplay.mkdir()
    loop = make_loop(partial(FailingEnv, LENGTH, 200, 1, tmp_path / "failures"), frames_folder=gameplay)
    loop.run()
    check_run(loop)
    assert loop.num_deaths == 0
    assert loop.crew.pool.num_env_failures == 1
    said = [line for line in capfd.readouterr().err.splitlines() if "ZeroDivisionError" in line]
    assert len(said) == 1
    assert said[0].startswith("An environment raised ZeroDivisionError: a broken (1 of 1 times in worker ")
    assert loop.blocks.get_state()["next_block"] == (NUM_WORKERS + 1) * NUM_ENVS
    _, episodes = read_shards(shard_paths(gameplay))
    assert {episode // EPISODES_PER_BLOCK for episode in episodes} == set(range((NUM_WORKERS + 1) * NUM_ENVS))


def test_an_environment_that_raises_too_often_is_named(make_loop, tmp_path, capfd):
    loop = make_loop(partial(FailingEnv, LENGTH, 5, 9, tmp_path / "failures"))
    told = (
        r"^the environments of worker 0 raised 2 times \(--workers\.max_env_failures 1\), at last ZeroDivisionError: a "
        r"broken\.\nMend the environment or try another --seed, then add --resume\.$"
    )
    with pytest.raises(LapaError, match=told):
        loop.run(num_workers=1)


def missing_env():
    raise LapaError("--env.game Pacwoman: unknown; choose another.")


def test_a_fault_of_the_users_in_a_worker_is_told(make_loop):
    with pytest.raises(LapaError, match=r"^--env.game Pacwoman: unknown; choose another\.$"):
        make_loop(missing_env).run(num_workers=1)


def test_a_fault_of_ours_in_a_worker_ends_the_run(make_loop):
    loop = make_loop(partial(CounterEnv, LENGTH))
    loop.supervisor._epsilon = lambda steps: "ours"
    with pytest.raises(ray.exceptions.RayTaskError, match="TypeError"):
        loop.run(num_workers=1)
