"""The loop worker → server → learner → weights on real Ray, with the counter environment: nothing is dropped,
reordered or mixed, with several workers, interleaving, eviction and workers that are killed.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import ray

from lapa_ray.actors import cluster, worker_pool
from lapa_ray.actors.cluster import ray_session
from lapa_ray.actors.episode_blocks import EPISODES_PER_BLOCK, EpisodeBlocks
from lapa_ray.actors.frame_mirror import batch_source
from lapa_ray.actors.learner import LearnerResources
from lapa_ray.actors.policy import to_weights
from lapa_ray.actors.rollout_worker import start_worker
from lapa_ray.actors.run_log import Counters
from lapa_ray.actors.supervisor import Plan, Supervisor
from lapa_ray.actors.worker_pool import WorkerPool
from lapa_ray.core.config import RayConfig
from lapa_ray.core.errors import LapaError
from lapa_ray.core.seeds import seed_for
from lapa_ray.dataset.shards import read_shards, shard_paths
from lapa_ray.models.q_network import QNetwork, QNetworkConfig
from lapa_ray.replay.buffer import ReplayConfig
from tests.support.counter_env import NUM_ACTIONS, CounterEnv
from tests.support.probe import GAMMA, MortalEnv, ProbeLearner, ProbeServer

NETWORK = QNetworkConfig(channels=(2, 2, 2), hidden=4, frame_stack=4)
LENGTH = 23
SEED = 3
NUM_STEPS = 1600
NUM_WORKERS, NUM_ENVS, ROLLOUT_STEPS = 2, 2, 9
BATCH_SIZE, SAMPLES_PER_INSERT, MIN_SIZE = 8, 2, 50


@pytest.fixture(scope="module", autouse=True)
def ray_running():
    with ray_session(RayConfig(num_cpus=2, object_store_mb=100)):
        yield


@dataclass
class Loop:
    """Actors of one run and how it went."""

    supervisor: Supervisor
    server: Any
    pool: WorkerPool
    rows: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    def run(self, num_workers: int = NUM_WORKERS, on_progress=lambda: None, should_stop=lambda: False) -> None:
        self.pool.start(num_workers)
        self.supervisor.run(should_stop, lambda step, row: self.rows.append((step, row)), lambda: None, on_progress)
        self.pool.close()


@pytest.fixture
def make_loop(tmp_path):
    loops = []

    def make(
        make_env,
        capacity=10_000,
        use_per=False,
        frames_folder=None,
        num_steps=NUM_STEPS,
        n_step=1,
        mirror="off",
    ) -> Loop:
        num_updates = SAMPLES_PER_INSERT * (num_steps - MIN_SIZE) // BATCH_SIZE
        config = ReplayConfig(
            capacity=capacity, min_size=MIN_SIZE, samples_per_insert=SAMPLES_PER_INSERT, spare_frames=300, n_step=n_step
        )
        server = ray.remote(ProbeServer).options(num_cpus=0).remote(
            config, frame_stack=NETWORK.frame_stack, use_per=use_per, batch_size=BATCH_SIZE, num_updates=num_updates,
            seed=SEED, max_waiting_steps=2 * NUM_WORKERS * NUM_ENVS * ROLLOUT_STEPS, gamma=GAMMA,
        )  # fmt: skip
        weights = to_weights(QNetwork(NUM_ACTIONS, NETWORK))
        source = batch_source(server, LearnerResources(device="cpu", mirror=mirror), wants_td_errors=use_per)
        learner = ray.remote(ProbeLearner).options(num_cpus=0.1).remote(source, LENGTH, weights)
        blocks = EpisodeBlocks(tmp_path / "blocks.json")
        pool = WorkerPool(
            lambda: start_worker(make_env, blocks.take(NUM_ENVS), NETWORK, SEED, server, frames_folder, 0.5)
        )
        plan = Plan(num_steps, num_updates, ROLLOUT_STEPS, NUM_ENVS, log_period_s=0.2, checkpoint_period_updates=10**9)
        loops.append(Loop(Supervisor(plan, server, learner, pool, lambda steps: 1.0, Counters()), server, pool))
        loops[-1].learner = learner
        return loops[-1]

    yield make
    for loop in loops:
        loop.pool.kill()
        ray.kill(loop.server)
        ray.kill(loop.learner)


def episodes_of(held: list[tuple[int, int]], num_blocks: int) -> dict[int, list[int]]:
    """Episode id to its held steps in order; every tag must be that of an episode that was given out."""
    ids = [block * EPISODES_PER_BLOCK + index for block in range(num_blocks) for index in range(40)]
    by_tag = {seed_for(SEED, "episode", episode_id) % 65536: episode_id for episode_id in ids}
    assert len(by_tag) == len(ids), "two episodes with one tag: choose another seed"
    episodes = defaultdict(list)
    for tag, step in held:
        episodes[by_tag[tag]].append(step)
    return episodes


def test_nothing_is_dropped_reordered_or_mixed_and_the_ratio_is_exact(make_loop):
    loop = make_loop(partial(CounterEnv, LENGTH))
    loop.run()
    counters, status = loop.supervisor.counters, ray.get(loop.server.status.remote())
    assert status.num_skipped == 0
    assert status.num_inserts == status.size == counters.num_steps
    assert NUM_STEPS <= counters.num_steps < NUM_STEPS + NUM_WORKERS * NUM_ENVS
    assert counters.num_updates == SAMPLES_PER_INSERT * (NUM_STEPS - MIN_SIZE) // BATCH_SIZE
    episodes = episodes_of(ray.get(loop.server.held.remote(LENGTH)), NUM_WORKERS * NUM_ENVS)
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
    for steps in episodes_of(ray.get(loop.server.held.remote(LENGTH)), NUM_WORKERS * NUM_ENVS).values():
        assert steps == list(range(1, steps[-1] + 1))


def test_eviction_leaves_whole_windows_of_the_newest_steps(make_loop):
    loop = make_loop(partial(CounterEnv, LENGTH), capacity=300, use_per=True)
    loop.run()
    held = ray.get(loop.server.held.remote(LENGTH))
    assert len(held) == 300
    for steps in episodes_of(held, NUM_WORKERS * NUM_ENVS).values():
        assert steps == list(range(steps[0], steps[-1] + 1))


def test_a_mirror_of_the_frames_gives_the_same_windows_of_an_evicting_buffer(make_loop):
    loop = make_loop(partial(CounterEnv, LENGTH), capacity=300, use_per=True, n_step=3, mirror="on")
    loop.run()
    assert loop.supervisor.counters.num_updates == SAMPLES_PER_INSERT * (NUM_STEPS - MIN_SIZE) // BATCH_SIZE
    assert len(ray.get(loop.server.held.remote(LENGTH))) == 300


def test_a_killed_worker_is_replaced_and_the_run_reaches_its_targets(make_loop, tmp_path, capfd):
    gameplay = tmp_path / "gameplay"
    gameplay.mkdir()
    make_env = partial(MortalEnv, LENGTH, at=200, grave=tmp_path / "grave")
    loop = make_loop(make_env, frames_folder=gameplay)
    loop.run()
    counters, status = loop.supervisor.counters, ray.get(loop.server.status.remote())
    assert loop.pool.num_lost == 1
    assert "A rollout worker died" in capfd.readouterr().err
    assert counters.num_steps >= NUM_STEPS
    assert counters.num_updates == SAMPLES_PER_INSERT * (NUM_STEPS - MIN_SIZE) // BATCH_SIZE
    assert status.num_skipped == 0
    # Two blocks more than without the death; what the dead worker sent is still whole, step by step.
    for steps in episodes_of(ray.get(loop.server.held.remote(LENGTH)), (NUM_WORKERS + 1) * NUM_ENVS).values():
        assert steps == list(range(1, steps[-1] + 1))
    _, episodes = read_shards(shard_paths(gameplay))
    assert {episode // EPISODES_PER_BLOCK for episode in episodes} < set(range((NUM_WORKERS + 1) * NUM_ENVS))


def test_workers_that_always_die_end_the_run_by_name(make_loop, monkeypatch):
    monkeypatch.setattr(worker_pool, "MAX_DEATHS_IN_A_ROW", 2)
    loop = make_loop(partial(MortalEnv, LENGTH, at=3, grave=None))
    with pytest.raises(LapaError, match="died 2 times in a row"):
        loop.run(num_workers=1)


class BrokenEnv(CounterEnv):
    def step(self, action):
        raise ZeroDivisionError("ours")


def missing_env():
    raise LapaError("--env.game Pacwoman: unknown; choose another.")


def test_a_fault_of_the_users_in_a_worker_is_told(make_loop):
    with pytest.raises(LapaError, match=r"^--env.game Pacwoman: unknown; choose another\.$"):
        make_loop(missing_env).run(num_workers=1)


def test_a_fault_of_ours_in_a_worker_ends_the_run(make_loop):
    with pytest.raises(ray.exceptions.RayTaskError, match="ZeroDivisionError"):
        make_loop(BrokenEnv).run(num_workers=1)


def test_a_run_without_its_server_says_how_to_go_on(make_loop):
    loop = make_loop(partial(CounterEnv, LENGTH))

    def kill_when_training() -> None:
        if loop.supervisor.counters.num_updates > 20:
            ray.kill(loop.server)

    with pytest.raises(LapaError, match=r"the .*(replay server|learner).* died .*add --resume"):
        loop.run(on_progress=kill_when_training)


def test_a_stop_takes_in_what_is_under_way(make_loop):
    loop = make_loop(partial(CounterEnv, LENGTH))
    loop.run(should_stop=lambda: loop.supervisor.counters.num_steps > 400)
    counters, status = loop.supervisor.counters, ray.get(loop.server.status.remote())
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
