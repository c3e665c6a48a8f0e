"""The runner of one environment: actions in, what was seen out, as chunks for the replay and as recorded gameplay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lapa_ray.actors.episode_blocks import EPISODES_PER_BLOCK
from lapa_ray.actors.learning_view import LearningSettings, LearningView
from lapa_ray.core.frames import NO_ACTION
from lapa_ray.core.seeds import generator_for, seed_for
from lapa_ray.dataset.writer import FrameWriter
from lapa_ray.envs.environment import Environment, FrameStack, Observation, Step
from lapa_ray.replay.chunk import Chunk

STREAMS_PER_BLOCK = 2**40
"""An environment's streams are its block + 0, 1, 2, … × this; blocks are fewer."""
Values = NDArray[np.float32]
ValueOf = Callable[[Observation], Values]
"""A stack uint8 [k, *obs.shape] → the action values float32 [num_actions]."""


@dataclass(slots=True)
class _Row:
    """How one observation frame was reached, and what the network makes of the stacks before and at it."""

    frame: Observation
    start: bool
    action: int
    reward: float
    terminated: bool
    chosen_q: float = 0.0
    max_q: float = 0.0


class EnvRunner:
    """One environment, its stack, its episode count and what it has to send."""

    def __init__(
        self,
        env: Environment,
        block: int,
        frame_stack: int,
        seed: int,
        writer: FrameWriter | None,
        learning: LearningSettings,
    ) -> None:
        self._env, self._block, self._seed, self._writer = env, block, seed, writer
        self._stream = block
        self._stack = FrameStack(frame_stack)
        self._view = LearningView(learning, env.info)
        self._num_episodes = 0
        self._rows: list[_Row] = []
        self._return, self._length = 0.0, 0
        self.generator = generator_for(seed, "exploration", block)
        self.stack = self._reset()

    def step(self, action: int, chosen_q: float = 0.0, value_of: ValueOf | None = None) -> tuple[float, int] | None:
        """One agent step; (return, length) if it ended the episode, and the next one has begun.

        `chosen_q` is the value of `action` in `stack`; `value_of` values the last stack of a truncated episode, which
        is never played from.
        """
        step = self._env.step(action)
        reward, terminated = self._view.see(step)
        self._rows.append(_Row(step.obs, False, action, reward, terminated, chosen_q))
        self._record(action, step)
        self._return += step.reward
        self._length += 1
        self.stack = self._stack.push(step.obs)
        if not step.is_last:
            return None
        if value_of is not None and not terminated:
            self.note_best(float(value_of(self.stack).max()))
        ended = (self._return, self._length)
        self.stack = self._reset()
        return ended

    def note_best(self, max_q: float) -> None:
        """`max_q` is the value of the best action in `stack`, as it is or was when its last frame was seen."""
        if self._rows:  # none just after a chunk was taken, which was sent with it
            self._rows[-1].max_q = max_q

    def begin_stream(self) -> None:
        """The next chunk begins a stream of its own: chunks before it may be lost, and must not be joined to it."""
        self._stream += STREAMS_PER_BLOCK

    def take_chunk(self, *, with_values: bool) -> Chunk:
        """The rows since the last one, as a chunk of this environment's stream."""
        rows, self._rows = self._rows, []
        return Chunk(
            stream=self._stream,
            frames=np.stack([row.frame for row in rows]),
            starts=np.array([row.start for row in rows]),
            actions=np.array([row.action for row in rows], dtype=np.int64),
            rewards=np.array([row.reward for row in rows], dtype=np.float32),
            terminated=np.array([row.terminated for row in rows]),
            max_q=np.array([row.max_q for row in rows], dtype=np.float32) if with_values else None,
            chosen_q=np.array([row.chosen_q for row in rows], dtype=np.float32) if with_values else None,
        )

    def close(self) -> None:
        """End the open episode of the gameplay and put its shard in place."""
        if self._writer is not None:
            self._writer.close()

    def _reset(self) -> Observation:
        episode_id = self._block * EPISODES_PER_BLOCK + self._num_episodes
        self._num_episodes += 1
        self._return, self._length = 0.0, 0
        step = self._env.reset(seed_for(self._seed, "episode", episode_id))
        if self._writer is not None:
            self._writer.end_episode()
            self._writer.begin_episode(episode_id)
        self._view.begin(step)
        self._rows.append(_Row(step.obs, True, NO_ACTION, 0.0, False))
        self._record(NO_ACTION, step)
        return self._stack.reset(step.obs)

    def _record(self, action: int, step: Step) -> None:
        if self._writer is not None:
            self._writer.append(action, step.frames, step.terminated, step.truncated)
