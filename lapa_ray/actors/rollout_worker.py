"""The rollout worker: weights in, chunks of frames out to the replay server, gameplay to Parquet. A plain class.

It steps several environments, infers for all in one batch on one core, and sends every observation frame once.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from lapa_ray.actors.env_runner import EnvRunner
from lapa_ray.actors.exploration import Ladder
from lapa_ray.actors.guarded_env import GuardedEnv
from lapa_ray.actors.learning_view import LearningSettings
from lapa_ray.actors.policy import EpsilonGreedy, Weights
from lapa_ray.core.config import Config
from lapa_ray.core.errors import LapaError
from lapa_ray.core.seeds import seed_for
from lapa_ray.dataset.writer import FrameWriter
from lapa_ray.envs.environment import Environment, Observation
from lapa_ray.models.q_network import QNetwork, QNetworkConfig
from lapa_ray.replay.chunk import Chunk

EnvFactory = Callable[[], Environment]
GAMEPLAY_LEVEL = 1
"""Zstandard's, beside play: writing takes an eighth less time than at 3, for shards a twentieth larger."""


class WorkerConfig(Config):
    """The workers that play."""

    part_of_identity = False

    num_workers: PositiveInt = 2
    """Rollout workers, one process each; one a core is best."""
    envs_per_worker: PositiveInt = 2
    """Environments that a worker steps in turn, with one inference for all."""
    rollout_steps: PositiveInt = 32
    """Steps of each environment between two fetches of weights."""
    cpus_per_worker: float = Field(0.5, gt=0)
    """CPU cores that Ray reserves for a worker."""
    max_env_failures: int = Field(3, ge=0)
    """Times that the environments of a worker may raise; it starts anew with other episodes, then the run stops."""
    max_weights_age_updates: PositiveInt = 1_000
    """Updates that the learner may be ahead of the weights that a worker plays with; beyond that it waits."""

    @property
    def num_envs(self) -> int:
        """Environments of all workers."""
        return self.num_workers * self.envs_per_worker


@dataclass(frozen=True)
class RolloutStats:
    """What a rollout tells the supervisor: agent steps, and (return, length in steps) of each episode that ended."""

    num_steps: int
    episodes: list[tuple[float, int]] = field(default_factory=list)


@dataclass(frozen=True)
class RolloutOptions:
    """What is not as usual: a ladder of ε, action values beside what was seen, what the learner is to see."""

    ladder: Ladder = field(default_factory=Ladder)
    with_values: bool = False
    learning: LearningSettings = field(default_factory=LearningSettings)


class RolloutWorker:
    """Plays `len(blocks)` environments; `send` takes the chunks."""

    def __init__(
        self,
        make_env: EnvFactory,
        blocks: list[int],
        network: QNetworkConfig,
        seed: int,
        send: Callable[[list[Chunk]], None],
        frames_folder: Path | None = None,
        options: RolloutOptions = RolloutOptions(),
    ) -> None:
        """`blocks`: one block of episode ids an environment; `frames_folder`: where gameplay goes, if anywhere."""
        torch.set_num_threads(1)
        torch.manual_seed(seed_for(seed, "noise", *blocks))
        envs = [GuardedEnv(make_env()) for _ in blocks]
        self._send, self._options = send, options
        self._runners = [
            EnvRunner(env, block, network.frame_stack, seed, _writer(frames_folder, env, block), options.learning)
            for env, block in zip(envs, blocks, strict=True)
        ]
        self._generators = [runner.generator for runner in self._runners]
        num_actions, obs_shape = envs[0].num_actions, self._runners[0].stack.shape[1:]
        self._policy = EpsilonGreedy(QNetwork(num_actions, network, obs_shape), num_actions, explores=True)

    def play(self, weights: Weights, epsilon: float, num_steps: int, place: int = 0) -> RolloutStats:
        """Step every environment `num_steps` times with `weights`, and send what was seen.

        `place`: the worker's among all workers, by which its environments stand on the ladder of ε.
        """
        self._policy.load(weights)
        num_envs = len(self._runners)
        epsilons = self._options.ladder.epsilons(epsilon, range(place * num_envs, (place + 1) * num_envs))
        episodes = [episode for _ in range(num_steps) for episode in self._step(epsilons) if episode is not None]
        if self._options.with_values:
            self._note_best(self._policy.values(self._stacks()))
        self._deliver([runner.take_chunk(with_values=self._options.with_values) for runner in self._runners])
        return RolloutStats(num_steps * num_envs, episodes)

    def _step(self, epsilons: NDArray[np.float64]) -> list[tuple[float, int] | None]:
        """One agent step of every environment; return and length of each episode that ended."""
        stacks = self._stacks()
        if not self._options.with_values:
            actions = self._policy.act(stacks, epsilons, self._generators).tolist()
            return [runner.step(action) for runner, action in zip(self._runners, actions, strict=True)]
        actions, values = self._policy.act_and_value(stacks, epsilons, self._generators)
        self._note_best(values)
        chosen = np.take_along_axis(values, actions[:, None], axis=1)[:, 0].tolist()
        return [
            runner.step(action, chosen_q, self._value_of)
            for runner, action, chosen_q in zip(self._runners, actions.tolist(), chosen, strict=True)
        ]

    def _stacks(self) -> NDArray[np.uint8]:
        return np.stack([runner.stack for runner in self._runners])

    def _note_best(self, values: NDArray[np.float32]) -> None:
        for runner, best in zip(self._runners, values.max(axis=1).tolist(), strict=True):
            runner.note_best(best)

    def _value_of(self, stack: Observation) -> NDArray[np.float32]:
        return self._policy.values(stack[None])[0]

    def connect(self, send: Callable[[list[Chunk]], None]) -> None:
        """From now on give chunks to `send`, which knows nothing of those before."""
        self._send = send
        for runner in self._runners:
            runner.begin_stream()

    def close(self) -> None:
        """Finish the gameplay's shards."""
        for runner in self._runners:
            runner.close()

    def _deliver(self, chunks: list[Chunk]) -> None:
        try:
            self._send(chunks)
        except Exception:
            self.connect(self._send)
            raise


def check_visible(folder: Path) -> None:
    """Raise `LapaError` if this node does not see `folder`, which whoever started the worker has made."""
    if not folder.is_dir():
        raise LapaError(
            f"{folder}: not to be seen from node {platform.node()}, where a worker must write frames; "
            "put --out on storage that all nodes share."
        )


def _writer(folder: Path | None, env: Environment, block: int) -> FrameWriter | None:
    if folder is None:
        return None
    check_visible(folder)
    return FrameWriter(folder, env.info, f"block-{block:06d}", "training", GAMEPLAY_LEVEL)


def start_worker(
    make_env: EnvFactory,
    blocks: list[int],
    network: QNetworkConfig,
    seed: int,
    server: ray.actor.ActorHandle,
    frames_folder: Path | None,
    cpus: float,
    options: RolloutOptions = RolloutOptions(),
    scheduling_strategy: Any = "SPREAD",
) -> ray.actor.ActorHandle:
    """A worker as a Ray actor that sends its chunks to `server`, and waits until they are in."""
    return RolloutWorkerActor.options(num_cpus=cpus, scheduling_strategy=scheduling_strategy).remote(
        make_env, blocks, network, seed, ServerLink(server), frames_folder, options
    )


class ServerLink:
    """Sends chunks to the replay server; waiting for its answer is the back-pressure."""

    def __init__(self, server: ray.actor.ActorHandle) -> None:
        self._server = server

    def __call__(self, chunks: list[Chunk]) -> None:
        """Send and wait."""
        ray.get(self._server.insert.remote(chunks))


RolloutWorkerActor = ray.remote(RolloutWorker)
