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
from pydantic import Field, PositiveInt

from lapa_ray.actors.episode_blocks import EPISODES_PER_BLOCK
from lapa_ray.actors.policy import EpsilonGreedy, Weights
from lapa_ray.core.config import Config
from lapa_ray.core.errors import LapaError
from lapa_ray.core.frames import NO_ACTION
from lapa_ray.core.seeds import generator_for, seed_for
from lapa_ray.dataset.writer import FrameWriter
from lapa_ray.envs.environment import Environment, FrameStack, Step
from lapa_ray.models.q_network import QNetwork, QNetworkConfig
from lapa_ray.replay.chunk import Chunk

EnvFactory = Callable[[], Environment]


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


@dataclass(frozen=True)
class RolloutStats:
    """What a rollout tells the supervisor: agent steps, and (return, length in steps) of each episode that ended."""

    num_steps: int
    episodes: list[tuple[float, int]] = field(default_factory=list)


@dataclass
class _Row:
    """How one observation frame was reached."""

    frame: np.ndarray
    start: bool
    action: int
    reward: float
    terminated: bool


class EnvRunner:
    """One environment, its stack, its episode count and what it has to send."""

    def __init__(self, env: Environment, block: int, frame_stack: int, seed: int, writer: FrameWriter | None) -> None:
        self._env, self._block, self._seed, self._writer = env, block, seed, writer
        self._stack = FrameStack(frame_stack)
        self._num_episodes = 0
        self._rows: list[_Row] = []
        self._return, self._length = 0.0, 0
        self.generator = generator_for(seed, "exploration", block)
        self.stack = self._reset()

    def step(self, action: int) -> tuple[float, int] | None:
        """One agent step; (return, length) if it ended the episode, and the next one has begun."""
        step = self._env.step(action)
        self._note(action, step, start=False)
        self._return += step.reward
        self._length += 1
        if not step.is_last:
            self.stack = self._stack.push(step.obs)
            return None
        ended = (self._return, self._length)
        self.stack = self._reset()
        return ended

    def take_chunk(self) -> Chunk:
        """The rows since the last one, as a chunk of this environment's stream."""
        rows, self._rows = self._rows, []
        return Chunk(
            stream=self._block,
            frames=np.stack([row.frame for row in rows]),
            starts=np.array([row.start for row in rows]),
            actions=np.array([row.action for row in rows], dtype=np.int64),
            rewards=np.array([row.reward for row in rows], dtype=np.float32),
            terminated=np.array([row.terminated for row in rows]),
        )

    def close(self) -> None:
        """End the open episode of the gameplay and put its shard in place."""
        if self._writer is not None:
            self._writer.close()

    def _reset(self) -> np.ndarray:
        episode_id = self._block * EPISODES_PER_BLOCK + self._num_episodes
        self._num_episodes += 1
        self._return, self._length = 0.0, 0
        step = self._env.reset(seed_for(self._seed, "episode", episode_id))
        if self._writer is not None:
            self._writer.end_episode()
            self._writer.begin_episode(episode_id)
        self._note(NO_ACTION, step, start=True)
        return self._stack.reset(step.obs)

    def _note(self, action: int, step: Step, *, start: bool) -> None:
        self._rows.append(_Row(step.obs, start, action, step.reward, step.terminated))
        if self._writer is not None:
            self._writer.append(action, step.frames, step.terminated, step.truncated)


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
    ) -> None:
        """`blocks`: one block of episode ids an environment; `frames_folder`: where gameplay goes, if anywhere."""
        torch.set_num_threads(1)
        envs = [make_env() for _ in blocks]
        self._send = send
        self._policy = EpsilonGreedy(QNetwork(envs[0].num_actions, network), envs[0].num_actions)
        self._runners = [
            EnvRunner(env, block, network.frame_stack, seed, _writer(frames_folder, env, block))
            for env, block in zip(envs, blocks, strict=True)
        ]

    def play(self, weights: Weights, epsilon: float, num_steps: int) -> RolloutStats:
        """Step every environment `num_steps` times with `weights`, and send what was seen."""
        self._policy.load(weights)
        episodes = []
        for _ in range(num_steps):
            stacks = np.stack([runner.stack for runner in self._runners])
            actions = self._policy.act(stacks, epsilon, [runner.generator for runner in self._runners])
            ended = [runner.step(int(action)) for runner, action in zip(self._runners, actions, strict=True)]
            episodes += [episode for episode in ended if episode is not None]
        self._send([runner.take_chunk() for runner in self._runners])
        return RolloutStats(num_steps * len(self._runners), episodes)

    def close(self) -> None:
        """Finish the gameplay's shards."""
        for runner in self._runners:
            runner.close()


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
    return FrameWriter(folder, env.info, f"block-{block:06d}", "training")


def start_worker(
    make_env: EnvFactory,
    blocks: list[int],
    network: QNetworkConfig,
    seed: int,
    server: ray.actor.ActorHandle,
    frames_folder: Path | None,
    cpus: float,
    scheduling_strategy: Any = "SPREAD",
) -> ray.actor.ActorHandle:
    """A worker as a Ray actor that sends its chunks to `server`, and waits until they are in."""
    return RolloutWorkerActor.options(num_cpus=cpus, scheduling_strategy=scheduling_strategy).remote(
        make_env, blocks, network, seed, ServerLink(server), frames_folder
    )


class ServerLink:
    """Sends chunks to the replay server; waiting for its answer is the back-pressure."""

    def __init__(self, server: ray.actor.ActorHandle) -> None:
        self._server = server

    def __call__(self, chunks: list[Chunk]) -> None:
        """Send and wait."""
        ray.get(self._server.insert.remote(chunks))


RolloutWorkerActor = ray.remote(RolloutWorker)
