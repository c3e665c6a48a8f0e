"""The episode player: an episode id in, a whole recorded episode out. A plain class; Ray wraps it.

Everything random in an episode comes from its id, so who plays it, and in which order, changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ray
import torch

from lapa_ray.actors.episode_policies import EpisodePolicy, NetworkPolicy, PlannerPolicy
from lapa_ray.actors.policy import EpsilonGreedy
from lapa_ray.actors.rollout_worker import check_visible
from lapa_ray.core.frames import NO_ACTION
from lapa_ray.core.seeds import seed_for
from lapa_ray.dataset.writer import ROWS_PER_SHARD, FrameWriter
from lapa_ray.envs.environment import RestorableEnvironment, Step
from lapa_ray.envs.planner import PLANNER, Planner
from lapa_ray.models.q_network import QNetwork

STEPS_A_CALL = 100
"""A planner plays these in some seconds, so that a Ctrl-C need not wait for the end of an episode."""


@dataclass(frozen=True)
class PlaySettings:
    """How to play: ε, the seed of all episodes, and the agent steps after which one is cut (None: never).

    planner_max_steps is that number for the planner's episodes. policy_name is what the shards call the one who plays
    with the network, or at random without one.
    """

    epsilon: float
    seed: int
    max_steps: int | None
    planner_max_steps: int | None
    frame_stack: int
    policy_name: str
    compression_level: int


@dataclass(frozen=True)
class PlayedEpisode:
    """An episode's return and its length in agent steps."""

    episode_id: int
    episode_return: float
    num_steps: int


@dataclass
class _Open:
    """An episode under way."""

    episode_id: int
    policy: EpisodePolicy
    writer: FrameWriter
    max_steps: int | None
    last: Step
    total: float = 0.0
    num_steps: int = 0


class EpisodePlayer:
    """Plays and records episodes, one after another."""

    def __init__(
        self,
        make_env: Callable[[], RestorableEnvironment],
        network: QNetwork | None,
        make_planner: Callable[[], Planner],
        settings: PlaySettings,
        folder: Path,
        scratch: Path,
        name: str,
    ) -> None:
        """`network` None plays at random; shards in `folder` are called NAME-….parquet, a planner's NAME-planner-….

        Until they are whole they lie in `scratch`.
        """
        torch.set_num_threads(1)
        check_visible(folder)
        self._env, self._settings = make_env(), settings
        self._folder, self._scratch, self._name = folder, scratch, name
        self._make_planner, self._network = make_planner, network
        self._casts: dict[bool, tuple[EpisodePolicy, FrameWriter]] = {}
        self._open: _Open | None = None

    def play(self, episode_id: int, by_planner: bool) -> PlayedEpisode | None:
        """Begin an episode, or play on at it; None if it has not ended yet: call again, or close to forget it."""
        if self._open is None or self._open.episode_id != episode_id:
            self._open = self._begin(episode_id, by_planner)
        episode, end = self._open, self._open.num_steps + STEPS_A_CALL
        while not (episode.last.is_last or episode.num_steps == episode.max_steps):
            if episode.num_steps == end:
                return None
            self._step(episode)
        episode.writer.end_episode()
        self._open = None
        return PlayedEpisode(episode_id, episode.total, episode.num_steps)

    def close(self) -> None:
        """Put the open shards in place, but for one with an episode under way, which is thrown away."""
        if self._open is not None:
            self._open.writer.abort()
        for _, writer in self._casts.values():
            writer.close()

    def _begin(self, episode_id: int, by_planner: bool) -> _Open:
        if by_planner not in self._casts:
            self._casts[by_planner] = self._cast_planner() if by_planner else self._cast_network()
        policy, writer = self._casts[by_planner]
        step = self._env.reset(seed_for(self._settings.seed, "episode", episode_id))
        writer.begin_episode(episode_id)
        writer.append(NO_ACTION, step.frames, terminated=False, truncated=False)
        policy.begin(episode_id, step)
        max_steps = self._settings.planner_max_steps if by_planner else self._settings.max_steps
        return _Open(episode_id, policy, writer, max_steps, step)

    def _step(self, episode: _Open) -> None:
        action = episode.policy.act()
        step = self._env.step(action)
        episode.writer.append(action, step.frames, step.terminated, step.truncated)
        episode.policy.see(step)
        episode.last, episode.total, episode.num_steps = step, episode.total + step.reward, episode.num_steps + 1

    def _cast_network(self) -> tuple[EpisodePolicy, FrameWriter]:
        settings, greedy = self._settings, EpsilonGreedy(self._network, self._env.num_actions)
        policy = NetworkPolicy(greedy, settings.epsilon, settings.frame_stack, settings.seed)
        return policy, self._writer(self._name, settings.policy_name, ROWS_PER_SHARD)

    def _cast_planner(self) -> tuple[EpisodePolicy, FrameWriter]:
        policy = PlannerPolicy(self._make_planner(), self._env, self._settings.seed)
        # An episode a shard: it took minutes, and nothing but itself is to be lost with it.
        return policy, self._writer(f"{self._name}-{PLANNER}", PLANNER, 1)

    def _writer(self, name: str, policy: str, rows_per_shard: int) -> FrameWriter:
        return FrameWriter(
            self._folder,
            self._env.info,
            name,
            policy,
            compression_level=self._settings.compression_level,
            rows_per_shard=rows_per_shard,
            scratch=self._scratch,
        )


EpisodePlayerActor = ray.remote(EpisodePlayer)
