"""Catch on a 5 × 5 grid: a ball falls, a paddle moves; small enough to learn within a minute on a CPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lapa_ray.core.frames import NO_ACTION, RAM_BYTES, GameInfo, StepFrames
from lapa_ray.envs.environment import Step

SIZE = 5
NUM_ACTIONS = 3


class CatchEnv:
    """Left, stay or right; the ball needs four steps to the paddle's row, +1 if it is caught, −1 if not."""

    def __init__(self, obs_shape: tuple[int, ...] = (84, 84)) -> None:
        """`obs_shape`: (size, size) grey or (size, size, 3), where the ball is red and the paddle green."""
        self._obs_shape = obs_shape
        self.info = GameInfo(
            game="Catch",
            palette=np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1),
            action_meanings=("LEFT", "NOOP", "RIGHT"),
            height=obs_shape[0],
            width=obs_shape[1],
            frame_skip=1,
            sticky_probability=0.0,
            emulator="catch 1",
        )
        self._ball = self._paddle = self._row = 0

    @property
    def num_actions(self) -> int:
        return NUM_ACTIONS

    def reset(self, seed: int) -> Step:
        generator = np.random.default_rng(seed)
        self._ball, self._paddle = (int(column) for column in generator.integers(SIZE, size=2))
        self._row = 0
        return self._result(NO_ACTION, 0.0)

    def step(self, action: int) -> Step:
        self._paddle = min(max(self._paddle + action - 1, 0), SIZE - 1)
        self._row += 1
        reward = 0.0 if self._row < SIZE - 1 else (1.0 if self._paddle == self._ball else -1.0)
        return self._result(action, reward)

    def _result(self, action: int, reward: float) -> Step:
        obs, block = np.zeros(self._obs_shape, dtype=np.uint8), self._obs_shape[0] // SIZE
        ball, paddle = (255, 128) if obs.ndim == 2 else ((255, 0, 0), (0, 255, 0))
        for row, column, colour in ((self._row, self._ball, ball), (SIZE - 1, self._paddle, paddle)):
            obs[row * block : (row + 1) * block, column * block : (column + 1) * block] = colour
        frames = StepFrames(
            obs[None].copy(),
            np.zeros((1, RAM_BYTES), dtype=np.uint8),
            np.array([action], dtype=np.int8),
            np.array([reward], dtype=np.float32),
            np.ones(1, dtype=np.int8),
        )
        return Step(obs, reward, self._row >= SIZE - 1, truncated=False, frames=frames)


class CatchLivesEnv(CatchEnv):
    """Ball after ball until three were missed, or ten fell: +1 for each caught; a miss costs a life and no reward."""

    LIVES, BALLS = 3, 10

    def reset(self, seed: int) -> Step:
        self._generator = np.random.default_rng(seed)
        self._lives, self._num_balls = self.LIVES, 0
        return self._with_lives(super().reset(seed), ended=False)

    def step(self, action: int) -> Step:
        step = super().step(action)
        if step.terminated:
            self._num_balls += 1
            self._lives -= step.reward < 0
            self._ball, self._row = int(self._generator.integers(SIZE)), 0
        return self._with_lives(step, ended=self._lives == 0 or self._num_balls == self.BALLS)

    def _with_lives(self, step: Step, *, ended: bool) -> Step:
        frames = replace(step.frames, lives=np.array([self._lives], dtype=np.int8))
        return replace(step, reward=max(step.reward, 0.0), terminated=ended, frames=frames)
