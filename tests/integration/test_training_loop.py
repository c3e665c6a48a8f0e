"""The loop worker → server → learner → weights on real Ray, with the counter environment: nothing is dropped,
reordered or mixed, with several workers, interleaving and eviction. (Who dies in it: `tests/faults`.)
"""

from __future__ import annotations

from functools import partial

import pytest
import ray

from lapa_ray.actors import cluster
from lapa_ray.actors.episode_blocks import EPISODES_PER_BLOCK
from lapa_ray.core.errors import LapaError
from tests.support.counter_env import CounterEnv
from tests.support.probe_loop import (
    BATCH_SIZE,
    LENGTH,
    MIN_SIZE,
    NUM_ENVS,
    NUM_STEPS,
    NUM_WORKERS,
    SAMPLES_PER_INSERT,
    check_run,
    loops,
    num_updates_of,
)

pytestmark = pytest.mark.shared_ray


@pytest.fixture
def make_loop(tmp_path):
    with loops(tmp_path) as make:
        yield make


def test_nothing_is_dropped_reordered_or_mixed_and_the_ratio_is_exact(make_loop):
    loop = make_loop(partial(CounterEnv, LENGTH))
    loop.run()
    check_run(loop)
    counters, status = loop.counters, ray.get(loop.server.status.remote())
    assert status.num_skipped == status.num_extra_inserts == 0
    assert status.num_inserts == status.size == counters.num_steps
    assert NUM_STEPS <= counters.num_steps < NUM_STEPS + NUM_WORKERS * NUM_ENVS
    assert counters.num_updates == SAMPLES_PER_INSERT * (NUM_STEPS - MIN_SIZE) // BATCH_SIZE
    episodes = loop.episodes()
    for block in range(NUM_WORKERS * NUM_ENVS):
        ids = sorted(episode_id for episode_id in episodes if episode_id // EPISODES_PER_BLOCK == block)
        assert ids == list(range(block * EPISODES_PER_BLOCK, block * EPISODES_PER_BLOCK + len(ids)))
        for episode_id in ids[:-1]:
            assert episodes[episode_id] == list(range(1, LENGTH + 1))
        assert episodes[ids[-1]] == list(range(1, len(episodes[ids[-1]]) + 1))
    assert {row["return"] for _, row in loop.rows if "return" in row} == {LENGTH * (LENGTH + 1) / 2}
    assert (loop.rows[-1][1]["beta"], loop.rows[-1][1]["num_updates"]) == (0.0, counters.num_updates)


def test_of_n_steps_nothing_is_dropped_but_what_still_waits(make_loop):
    loop = make_loop(partial(CounterEnv, LENGTH), use_per=True, n_step=3)
    loop.run()
    counters, status = loop.supervisor.counters, ray.get(loop.server.status.remote())
    assert (status.num_inserts, status.num_skipped) == (counters.num_steps, 0)
    assert counters.num_updates == SAMPLES_PER_INSERT * (NUM_STEPS - MIN_SIZE) // BATCH_SIZE
    waiting = status.num_inserts - status.size
    assert 0 <= waiting <= NUM_WORKERS * NUM_ENVS * 2
    for steps in loop.episodes().values():
        assert steps == list(range(1, steps[-1] + 1))


def test_eviction_leaves_whole_windows_of_the_newest_steps(make_loop):
    loop = make_loop(partial(CounterEnv, LENGTH), capacity=300, use_per=True)
    loop.run()
    check_run(loop)
    assert len(loop.held()) == 300
    for steps in loop.episodes().values():
        assert steps == list(range(steps[0], steps[-1] + 1))


def test_a_mirror_of_the_frames_gives_the_same_windows_of_an_evicting_buffer(make_loop):
    loop = make_loop(partial(CounterEnv, LENGTH), capacity=300, use_per=True, n_step=3, mirror="on")
    loop.run()
    assert loop.counters.num_updates == num_updates_of(NUM_STEPS)
    assert len(loop.held()) == 300


def test_a_stop_takes_in_what_is_under_way(make_loop):
    loop = make_loop(partial(CounterEnv, LENGTH))
    loop.run(should_stop=lambda: loop.counters.num_steps > 400)
    counters, status = loop.counters, ray.get(loop.server.status.remote())
    assert not loop.supervisor.is_done
    assert 400 < counters.num_steps < NUM_STEPS
    assert status.num_inserts == counters.num_steps


def test_waiting_for_room_is_told(monkeypatch, capfd):
    @ray.remote(num_cpus=2)
    class Greedy:
        pass

    monkeypatch.setattr(cluster, "RESOURCE_LINE_PERIOD_S", 0.0)
    actors, said = [Greedy.remote(), Greedy.remote()], []

    def has_told() -> bool:
        said.append(capfd.readouterr().err)
        return "1 of 2 actors have not started; free: 0 CPU, 0 GPU" in said[-1]

    cluster.wait_for_actors(actors, has_told)
    for actor in actors:
        ray.kill(actor)
    assert said[-1].startswith("Waiting for the cluster (")


def test_gpus_are_reserved_where_asked_for_or_there_for_the_taking():
    assert [cluster.num_gpus(device, 2) for device in ("auto", "cuda", "cpu", "mps")] == [0, 2, 0, 0]
    with pytest.raises(LapaError, match=r"^Ray: need 2 GPU, have 0; ask for fewer workers"):
        cluster.require_resources(cpus=1, gpus=2)
