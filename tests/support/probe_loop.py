"""A training loop on real Ray with the counter environment and probes in the actors' places; what must hold of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from lapa_ray.actors.checkpoints import Checkpoints
from lapa_ray.actors.crew import Casting, Crew
from lapa_ray.actors.episode_blocks import EPISODES_PER_BLOCK, EpisodeBlocks
from lapa_ray.actors.frame_mirror import batch_source
from lapa_ray.actors.learner import LearnerResources, ServerSource
from lapa_ray.actors.policy import to_weights
from lapa_ray.actors.rollout_worker import start_worker
from lapa_ray.actors.run_log import Counters
from lapa_ray.actors.supervisor import Plan, Supervisor
from lapa_ray.core.seeds import seed_for
from lapa_ray.models.q_network import QNetwork, QNetworkConfig
from lapa_ray.replay.buffer import ReplayConfig
from tests.support.counter_env import NUM_ACTIONS
from tests.support.probe import GAMMA, ProbeLearner, ProbeServer

NETWORK = QNetworkConfig(channels=(2, 2, 2), hidden=4, frame_stack=4)
LENGTH = 23
SEED = 2
NUM_STEPS = 1600
NUM_WORKERS, NUM_ENVS, ROLLOUT_STEPS = 2, 2, 9
BATCH_SIZE, SAMPLES_PER_INSERT, MIN_SIZE = 8, 2, 50
MAX_WAITING_STEPS = 2 * NUM_WORKERS * NUM_ENVS * ROLLOUT_STEPS


def num_updates_of(num_steps: int) -> int:
    """Updates that so many steps earn."""
    return SAMPLES_PER_INSERT * (num_steps - MIN_SIZE) // BATCH_SIZE


@dataclass
class Loop:
    """Actors of one run and how it went."""

    supervisor: Supervisor
    crew: Crew
    blocks: EpisodeBlocks
    checkpoints: Checkpoints
    num_steps: int
    max_weights_age: int
    rows: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    @property
    def server(self) -> Any:
        return self.crew.server.handle

    @property
    def counters(self) -> Counters:
        return self.supervisor.counters

    @property
    def num_deaths(self) -> int:
        return self.crew.server.num_lost + self.crew.learner.num_lost + self.crew.pool.num_lost

    def run(
        self,
        num_workers: int = NUM_WORKERS,
        on_progress: Callable[[], None] = lambda: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        def look() -> None:
            self.supervisor.check_valid()
            on_progress()

        self.crew.pool.start(num_workers)
        self.supervisor.run(should_stop, lambda step, row: self.rows.append((step, row)), self.save, look)
        self.crew.pool.close()

    def save(self) -> None:
        run = self.supervisor.get_state()
        self.checkpoints.save(self.crew.server, self.crew.learner_state(), self.counters, run)

    def held(self) -> list[tuple[int, int]]:
        """Episode and step of every transition that the server holds, each one checked."""
        return ray.get(self.server.held.remote(LENGTH))

    def episodes(self) -> dict[int, list[int]]:
        """Episode id to its held steps, in the order of their insertion."""
        return episodes_of(self.held(), self.blocks.get_state()["next_block"])


def episodes_of(held: list[tuple[int, int]], num_blocks: int) -> dict[int, list[int]]:
    """Episode id to its held steps in order; every tag must be that of an episode that was given out."""
    ids = [block * EPISODES_PER_BLOCK + index for block in range(num_blocks) for index in range(40)]
    by_tag = {seed_for(SEED, "episode", episode_id) % 65536: episode_id for episode_id in ids}
    assert len(by_tag) == len(ids), "two episodes with one tag: choose another seed"
    episodes = defaultdict(list)
    for tag, step in held:
        episodes[by_tag[tag]].append(step)
    return episodes


def check_run(loop: Loop) -> None:
    """What must hold at the end of a run, whoever died in it (windows were checked as they were sampled)."""
    counters, status = loop.counters, ray.get(loop.server.status.remote())
    counts, target = status.counts, num_updates_of(loop.num_steps)
    assert loop.supervisor.is_done
    assert counters.num_updates == target
    assert counts["samples"] == target * BATCH_SIZE
    earned = SAMPLES_PER_INSERT * (counts["inserts"] - counts["free_inserts"])
    num_extra = counts["free_inserts"] - MIN_SIZE
    assert loop.num_steps <= counters.num_steps < loop.num_steps + num_extra + NUM_WORKERS * NUM_ENVS
    unacknowledged = counts["inserts"] - counters.num_steps  # of those that died when a rollout was just in
    num_lost_rollouts = loop.crew.pool.num_lost + loop.crew.server.num_lost * NUM_WORKERS
    assert 0 <= unacknowledged <= num_lost_rollouts * NUM_ENVS * ROLLOUT_STEPS
    slack = NUM_WORKERS * NUM_ENVS + unacknowledged
    assert 0 <= earned - counts["samples"] < SAMPLES_PER_INSERT * slack + BATCH_SIZE
    assert all(0 <= row["weights_age_updates"] <= loop.max_weights_age for _, row in loop.rows)
    for steps in loop.episodes().values():
        assert steps == sorted(set(steps)), "a step twice, or out of order"
    assert {row["return"] for _, row in loop.rows if "return" in row} <= {LENGTH * (LENGTH + 1) / 2}


def check_told(loop: Loop, said: str) -> None:
    """Every death is told once."""
    lines = said.splitlines()
    for place, count in (
        ("The replay server", loop.crew.server.num_lost),
        ("The learner", loop.crew.learner.num_lost),
        ("A rollout worker", loop.crew.pool.num_lost),
    ):
        assert len([line for line in lines if line.startswith(f"{place} died ")]) == count, said


@contextmanager
def loops(folder: Path) -> Iterator[Callable[..., Loop]]:
    """→ a maker of loops, whose actors are ended at the end of the block."""
    made: list[Loop] = []

    def make(
        make_env: Callable[[], Any],
        *,
        capacity: int = 10_000,
        use_per: bool = False,
        frames_folder: Path | None = None,
        num_steps: int = NUM_STEPS,
        server: dict[str, Any] | None = None,
        learner: dict[str, Any] | None = None,
        checkpoint_period_updates: int = 10**9,
        copy_period_updates: int = 20,
        max_weights_age: int = 100,
        max_env_failures: int = 1,
        n_step: int = 1,
        mirror: str = "off",
    ) -> Loop:
        """`server` and `learner`: what the probes in their places take besides."""
        config = ReplayConfig(
            capacity=capacity, min_size=MIN_SIZE, samples_per_insert=SAMPLES_PER_INSERT, spare_frames=300, n_step=n_step
        )
        blocks = EpisodeBlocks(folder / "blocks.json")
        checkpoints = Checkpoints(folder / "checkpoints", use_per=use_per, with_replay=True, config={})
        weights = to_weights(QNetwork(NUM_ACTIONS, NETWORK))

        def source(handle: Any) -> ServerSource:
            return batch_source(handle, LearnerResources(device="cpu", mirror=mirror), wants_td_errors=use_per)

        casting = Casting(
            server=lambda: ray.remote(ProbeServer).options(num_cpus=0).remote(
                config, frame_stack=NETWORK.frame_stack, use_per=use_per, batch_size=BATCH_SIZE,
                num_updates=num_updates_of(num_steps), seed=SEED, max_waiting_steps=MAX_WAITING_STEPS,
                gamma=GAMMA, **(server or {}),
            ),
            learner=lambda handle: ray.remote(ProbeLearner).options(num_cpus=0.1).remote(
                source(handle), LENGTH, weights, **(learner or {})
            ),
            worker=lambda handle, _index: start_worker(
                make_env, blocks.take(NUM_ENVS), NETWORK, SEED, handle, frames_folder, 0.5
            ),
            source=source,
            load_server=checkpoints.load_server,
            load_learner=checkpoints.load_learner,
            max_env_failures=max_env_failures,
        )  # fmt: skip
        plan = Plan(
            num_steps=num_steps,
            num_updates=num_updates_of(num_steps),
            rollout_steps=ROLLOUT_STEPS,
            envs_per_worker=NUM_ENVS,
            log_period_s=0.2,
            checkpoint_period_updates=checkpoint_period_updates,
            max_weights_age_updates=max_weights_age,
        )
        crew = Crew(casting, copy_period_updates)
        supervisor = Supervisor(plan, crew, lambda steps: 1.0, Counters())
        made.append(Loop(supervisor, crew, blocks, checkpoints, num_steps, max_weights_age))
        return made[-1]

    try:
        yield make
    finally:
        for loop in made:
            loop.crew.end()
