"""The replay buffers that are compared, each behind the same two methods, and given the same transitions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks._made_play import EPISODE_ROWS, EPISODE_STEPS, Episode, MadePlay
from lapa_ray.replay.buffer import ReplayBuffer, ReplayConfig, build_replay

BATCH_SIZE = 32
FRAME_STACK = 8
N_STEP = 3
GAMMA, ALPHA, BETA = 0.99, 0.6, 0.4
Errors = NDArray[np.float32]


class Side(Protocol):
    """A prioritised replay buffer."""

    def sample_and_update(self, td_errors: Errors) -> Any:
        """Sample a batch of 32, set its priorities; returns the batch as the buffer gives it."""


def our_buffer(capacity: int, n_step: int = N_STEP) -> ReplayBuffer:
    """Our buffer, empty, of 8-stacks."""
    config = ReplayConfig(capacity=capacity, min_size=1, alpha=ALPHA, n_step=n_step)
    generator = np.random.default_rng(0)
    return build_replay(config, frame_stack=FRAME_STACK, use_per=True, generator=generator, gamma=GAMMA)


class Ours:
    """lapa_ray: a frame once, windows of frame slots."""

    def __init__(self, play: MadePlay, num_episodes: int, n_step: int = N_STEP) -> None:
        self.buffer = our_buffer(num_episodes * EPISODE_STEPS, n_step)
        for index in range(num_episodes):
            self.buffer.add([play.chunk(0, index * EPISODE_ROWS, EPISODE_ROWS)])

    def sample_and_update(self, td_errors: Errors) -> Any:
        """Windows uint8 [32, 8 + n, 84, 84] and columns, copied."""
        batch = self.buffer.sample(BATCH_SIZE, BETA)
        self.buffer.update_priorities(batch.ids, td_errors)
        return batch


class Cpprb:
    """cpprb (C++). With `compressed` a frame is kept once (`stack_compress`, `next_of`), for which it knows only n = 1:
    with `Nstep` its last next stacks of an episode are overwritten. Without, every stack is kept whole, 56 kB each.
    """

    def __init__(self, play: MadePlay, num_episodes: int, *, compressed: bool) -> None:
        from cpprb import PrioritizedReplayBuffer

        columns = {"obs": {"shape": (84, 84, FRAME_STACK), "dtype": np.uint8}, "act": {"dtype": np.int64}}
        compression = {"next_of": "obs"} | ({"stack_compress": "obs"} if compressed else {})
        size = num_episodes * EPISODE_STEPS
        self.buffer = PrioritizedReplayBuffer(size, columns | {"rew": {}, "done": {}}, alpha=ALPHA, **compression)
        for index in range(num_episodes):
            self._add(play.episode(index))

    def _add(self, episode: Episode) -> None:
        stacks = stacks_of(episode.frames)
        for step, (action, reward) in enumerate(zip(episode.actions, episode.rewards, strict=True)):
            done = float(step == EPISODE_STEPS - 1)
            self.buffer.add(obs=stacks[step], act=action, rew=reward, next_obs=stacks[step + 1], done=done)
        self.buffer.on_episode_end()

    def sample_and_update(self, td_errors: Errors) -> Any:
        """Two stacks uint8 [32, 84, 84, 8] and columns, copied."""
        batch = self.buffer.sample(BATCH_SIZE, BETA)
        self.buffer.update_priorities(batch["indexes"], td_errors)
        return batch


class Rllib:
    """RLlib's PrioritizedEpisodeReplayBuffer, of stacks that the environment made: every one is kept whole.

    The stacks are uint8 here, 56 kB each, a quarter of what RLlib keeps of an environment that scales them to floats.
    """

    def __init__(self, play: MadePlay, num_episodes: int) -> None:
        from ray.rllib.utils.replay_buffers import PrioritizedEpisodeReplayBuffer

        self.buffer = PrioritizedEpisodeReplayBuffer(capacity=num_episodes * EPISODE_STEPS, alpha=ALPHA)
        for index in range(num_episodes):
            self._add(play.episode(index))

    def _add(self, episode: Episode) -> None:
        from ray.rllib.env.single_agent_episode import SingleAgentEpisode

        whole = SingleAgentEpisode(
            observations=list(stacks_of(episode.frames)),
            actions=list(episode.actions),
            rewards=list(episode.rewards),
            terminated=True,
            len_lookback_buffer=0,
        )
        self.buffer.add([whole.to_numpy()])

    def sample_and_update(self, td_errors: Errors) -> Any:
        """32 episodes of one step; no batch is made of them yet."""
        batch = self.buffer.sample(BATCH_SIZE, n_step=N_STEP, beta=BETA, gamma=GAMMA)
        self.buffer.update_priorities(td_errors)
        return batch


def stacks_of(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Stacks uint8 [T+1, 84, 84, 8] of frames uint8 [T+1, 84, 84], oldest first, padded with the first."""
    indices = np.maximum(np.arange(len(frames))[:, None] + np.arange(1 - FRAME_STACK, 1), 0)
    return np.ascontiguousarray(np.moveaxis(frames[indices], 1, -1))


@dataclass(frozen=True)
class Peer:
    """How a peer's buffer is made and filled with so many episodes, and the n of its n-step transitions."""

    fill: Callable[[MadePlay, int], Side]
    n_step: int


PEERS = {
    "vs_cpprb": Peer(lambda play, num_episodes: Cpprb(play, num_episodes, compressed=True), n_step=1),
    "vs_cpprb_whole": Peer(lambda play, num_episodes: Cpprb(play, num_episodes, compressed=False), n_step=1),
    "vs_rllib": Peer(Rllib, N_STEP),
}
"""By the name of the figure."""
