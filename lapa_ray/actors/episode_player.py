"""The episode player: an episode id in, a whole recorded episode out. A plain class; Ray wraps it.

Everything random in an episode comes from its id, so who plays it, and in which order, changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ray
import torch

from lapa_ray.actors.policy import EpsilonGreedy
from lapa_ray.actors.rollout_worker import check_visible
from lapa_ray.core.frames import NO_ACTION
from lapa_ray.core.seeds import generator_for, seed_for
from lapa_ray.dataset.writer import FrameWriter
from lapa_ray.envs.environment import Environment, FrameStack
from lapa_ray.models.q_network import QNetwork


@dataclass(frozen=True)
class PlaySettings:
    """How to play: ε, the seed of all episodes, and the agent steps after which one is cut (None: never)."""

    epsilon: float
    seed: int
    max_steps: int | None
    frame_stack: int
    policy_name: str
    compression_level: int


@dataclass(frozen=True)
class PlayedEpisode:
    """An episode's return and its length in agent steps."""

    episode_id: int
    episode_return: float
    num_steps: int


class EpisodePlayer:
    """Plays and records episodes."""

    def __init__(
        self,
        make_env: Callable[[], Environment],
        network: QNetwork | None,
        settings: PlaySettings,
        folder: Path,
        name: str,
    ) -> None:
        """`network` None plays at random; shards are called NAME-….parquet in `folder`."""
        torch.set_num_threads(1)
        check_visible(folder)
        self._env, self._settings = make_env(), settings
        self._policy = EpsilonGreedy(network, self._env.num_actions)
        self._stack = FrameStack(settings.frame_stack)
        self._writer = FrameWriter(
            folder, self._env.info, name, settings.policy_name, compression_level=settings.compression_level
        )

    def play(self, episode_id: int) -> PlayedEpisode:
        """Play one episode to its end and record it."""
        settings = self._settings
        generator = generator_for(settings.seed, "policy", episode_id)
        step = self._env.reset(seed_for(settings.seed, "episode", episode_id))
        self._writer.begin_episode(episode_id)
        self._writer.append(NO_ACTION, step.frames, terminated=False, truncated=False)
        stack = self._stack.reset(step.obs)
        total, count = 0.0, 0
        while not step.is_last and count != settings.max_steps:
            action = int(self._policy.act(stack[None], settings.epsilon, [generator])[0])
            step = self._env.step(action)
            self._writer.append(action, step.frames, step.terminated, step.truncated)
            stack = self._stack.push(step.obs)
            total, count = total + step.reward, count + 1
        self._writer.end_episode()
        return PlayedEpisode(episode_id, total, count)

    def close(self) -> None:
        """Put the open shard in place."""
        self._writer.close()


EpisodePlayerActor = ray.remote(EpisodePlayer)
