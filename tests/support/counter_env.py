"""An environment that spells out what it is: a probe can tell from any frame which episode and step it came from."""

from __future__ import annotations

import numpy as np

from lapa_ray.core.frames import NO_ACTION, RAM_BYTES, GameInfo, StepFrames
from lapa_ray.envs.environment import Step

NUM_ACTIONS = 5


class CounterEnv:
    """Observation pixels (0, 0..4) hold tag (2 bytes), step (2 bytes) and the action that led here (255 at a reset).

    RAM begins with the same five bytes. The reward of a step is its number; the episode ends after `length` steps.
    """

    def __init__(self, length: int = 20, *, truncates: bool = False, frame_skip: int = 4, height: int = 210) -> None:
        self.length, self.truncates = length, truncates
        self.info = GameInfo(
            game="Counter",
            palette=np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1),
            action_meanings=tuple(f"ACTION{index}" for index in range(NUM_ACTIONS)),
            height=height,
            width=160,
            frame_skip=frame_skip,
            sticky_probability=0.0,
            emulator="counter 1",
        )
        self._tag = self._step = 0

    @property
    def num_actions(self) -> int:
        return NUM_ACTIONS

    def reset(self, seed: int) -> Step:
        self._tag, self._step = seed % 65536, 0
        return self._result(NO_ACTION, 0.0, 1)

    def step(self, action: int) -> Step:
        self._step += 1
        return self._result(action, float(self._step), self.info.frame_skip)

    def _result(self, action: int, reward: float, count: int) -> Step:
        spelt = spell(self._tag, self._step, action)
        obs = np.zeros((84, 84), dtype=np.uint8)
        obs[0, :5] = spelt
        screens = np.zeros((count, self.info.height, self.info.width), dtype=np.uint8)
        screens[:, 0, :5] = spelt
        screens[:, 0, 5] = np.arange(count)
        ram = np.zeros((count, RAM_BYTES), dtype=np.uint8)
        ram[:, :5] = spelt
        rewards = np.zeros(count, dtype=np.float32)
        rewards[-1] = reward
        executed = np.full(count, action, dtype=np.int8)
        frames = StepFrames(screens, ram, executed, rewards, np.full(count, 3, dtype=np.int8))
        over = self._step >= self.length
        return Step(obs, reward, over and not self.truncates, over and self.truncates, frames)


def spell(tag: int, step: int, action: int) -> list[int]:
    """The five bytes of a frame."""
    return [tag // 256, tag % 256, step // 256, step % 256, action % 256]


def read(frame: np.ndarray) -> tuple[int, int, int]:
    """Tag, step and action of a frame uint8 [height, width] (or of a RAM uint8 [128])."""
    high, low, step_high, step_low, action = (int(value) for value in np.atleast_2d(frame)[0, :5])
    return high * 256 + low, step_high * 256 + step_low, action
