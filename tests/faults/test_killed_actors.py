"""SIGKILL of workers, replay server and learner, on real Ray with the counter environment.

The assertion is the same as without faults: `check_run`. Who dies, and at which of its steps, is chosen; when that is
for the others is left to chance.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from functools import partial

import pytest
import ray

from lapa_ray.actors import replaceable, worker_pool
from lapa_ray.actors.episode_blocks import EPISODES_PER_BLOCK, EpisodeBlocks
from lapa_ray.actors.policy import to_weights
from lapa_ray.actors.rollout_worker import start_worker
from lapa_ray.actors.worker_pool import WorkerPool
from lapa_ray.core.errors import LapaError
from lapa_ray.dataset.shards import read_shards, shard_paths
from lapa_ray.models.q_network import QNetwork
from tests.support.counter_env import NUM_ACTIONS, CounterEnv
from tests.support.probe import Deaths, DyingEnv, FailingEnv, MortalEnv, Mortality
from tests.support.probe_loop import (
    LENGTH,
    MIN_SIZE,
    NETWORK,
    NUM_ENVS,
    NUM_WORKERS,
    ROLLOUT_STEPS,
    SEED,
    check_run,
    check_told,
    loops,
)

pytestmark = pytest.mark.shared_ray

CAPACITY = 300


@pytest.fixture
def make_loop(tmp_path):
    with loops(tmp_path) as make:
        yield make


def some(generator: random.Random, count: int, low: int, high: int) -> list[int]:
    return [generator.randint(low, high) for _ in range(count)]


def test_a_run_in_which_everyone_is_killed_again_and_again_ends_like_any_other(make_loop, tmp_path, capfd):
    generator = random.Random(0)
    deaths = {
        "worker": Deaths(some(generator, 2, 20, 300), tmp_path / "workers"),
        "server": Deaths(some(generator, 2, 1, 60), tmp_path / "servers"),
        "learner": Deaths(some(generator, 2, 1, 90), tmp_path / "learners"),
    }
    loop = make_loop(
        partial(DyingEnv, LENGTH, deaths["worker"]),
        capacity=CAPACITY,
        use_per=True,
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
    loop.run(num_workers=1, on_progress=kill_once)
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

    loop.run(num_workers=1, on_progress=kill_once)
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


@pytest.mark.parametrize("who", ["replay server", "learner"])
def test_one_that_always_dies_ends_the_run_by_name(make_loop, monkeypatch, who):
    monkeypatch.setattr(replaceable, "MAX_DEATHS_IN_A_ROW", 2)
    mortality = {"mortality": Mortality(1, None)}
    loop = make_loop(partial(CounterEnv, LENGTH), capacity=MIN_SIZE, **{who.split()[-1]: mortality})
    with pytest.raises(LapaError, match=rf"^the {who} died 2 times in a row \(.*\); .*--resume") as error:
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


@contextmanager
def lone_worker(tmp_path, make_env, max_env_failures: int = 1):
    """A pool of one worker, which nobody is there for to take its chunks."""
    blocks = EpisodeBlocks(tmp_path / "blocks.json")

    def start(index):
        assert index == 0
        return start_worker(make_env, blocks.take(1), NETWORK, SEED, None, None, 0.5)

    pool = WorkerPool(start, max_env_failures)
    pool.start(1)
    try:
        yield pool
    finally:
        pool.kill()


def play_once(pool: WorkerPool, epsilon: object = 1.0) -> None:
    """A rollout that brings nothing."""
    pool.play(ray.put(to_weights(QNetwork(NUM_ACTIONS, NETWORK))), epsilon, 9, 9, 0)
    pool.check_valid()
    (reference,) = pool.under_way
    assert pool.take(reference) is None


def test_workers_that_always_die_end_the_run_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_pool, "MAX_DEATHS_IN_A_ROW", 2)
    with lone_worker(tmp_path, partial(MortalEnv, LENGTH, at=3, grave=None)) as pool:
        play_once(pool)
        with pytest.raises(LapaError, match=r"^rollout workers died 2 times in a row \(.*\); .*--resume\.$"):
            play_once(pool)


def test_an_environment_that_raises_too_often_is_named(tmp_path):
    told = (
        r"^the environments of worker 0 raised 2 times \(--workers\.max_env_failures 1\), at last ZeroDivisionError: a "
        r"broken\.\nMend the environment or try another --seed, then add --resume\.$"
    )
    with lone_worker(tmp_path, partial(FailingEnv, LENGTH, 5, 9, tmp_path / "failures")) as pool:
        play_once(pool)
        with pytest.raises(LapaError, match=told):
            play_once(pool)


def missing_env():
    raise LapaError("--env.game Pacwoman: unknown; choose another.")


def test_a_fault_of_the_users_in_a_worker_is_told(tmp_path):
    told = r"^--env.game Pacwoman: unknown; choose another\.$"
    with lone_worker(tmp_path, missing_env) as pool, pytest.raises(LapaError, match=told):
        play_once(pool)


def test_a_fault_of_ours_in_a_worker_ends_the_run(tmp_path):
    with (
        lone_worker(tmp_path, partial(CounterEnv, LENGTH)) as pool,
        pytest.raises(ray.exceptions.RayTaskError, match="ValueError"),
    ):
        play_once(pool, epsilon="ours")
