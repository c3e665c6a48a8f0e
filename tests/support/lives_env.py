"""A counter whose player loses a life every few steps, with observations of any shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lapa_ray.envs.environment import Step
from tests.support.counter_env import CounterEnv


class LivesEnv(CounterEnv):
    """A `CounterEnv` of three lives, one lost every `steps_a_life` steps; `obs_shape` begins with (height, width)."""

    def __init__(
        self,
        length: int = 9,
        steps_a_life: int = 3,
        obs_shape: tuple[int, ...] = (84, 84),
        *,
        truncates: bool = False,
    ) -> None:
        super().__init__(length, truncates=truncates)
        self._steps_a_life, self._obs_shape = steps_a_life, obs_shape

    def _result(self, action: int, reward: float, count: int) -> Step:
        plain = super()._result(action, reward, count)
        obs = np.zeros(self._obs_shape, dtype=np.uint8)
        obs[0, :5] = plain.obs[0, :5].reshape(5, *[1] * (obs.ndim - 2))
        lives = np.full(count, 3 - self._step // self._steps_a_life, dtype=np.int8)
        return replace(plain, obs=obs, frames=replace(plain.frames, lives=lives))
