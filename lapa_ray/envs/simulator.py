"""The simulator: a state of the emulator in, agent steps tried out from there. It draws sticky actions of its own.

Its draws follow the same law as the environment's and are independent of them: what it tries may happen, and it knows
as little of what will happen as a player does.
"""

from __future__ import annotations

import numpy as np

from lapa_ray.core.frames import RAM_BYTES
from lapa_ray.envs.atari_env import AtariEnvConfig
from lapa_ray.envs.emulator import EmulatorState, load_emulator

DRAWS = 4096


class Simulator:
    """Two emulators of one game: one runs a whole agent step at once, at two thirds of the cost, one single frames."""

    def __init__(self, config: AtariEnvConfig) -> None:
        """Load the ROM twice (about 0.2 s). Raises `LapaError` for a game that there is not."""
        self._num_frames, self._sticky = config.frame_skip, config.sticky_probability
        self._steps = load_emulator(config.game, self._num_frames)
        self._frames = load_emulator(config.game)
        actions = self._steps.getMinimalActionSet()
        self._actions = [action.value for action in actions]
        self.action_meanings = tuple(action.name for action in actions)
        self._executed = 0
        self._delays: list[int] = []
        self._generator = np.random.default_rng(0)
        self.ram = np.zeros(RAM_BYTES, dtype=np.uint8)
        """Memory after the last step; uint8 [128], overwritten by the next."""
        self.num_steps = 0
        """Agent steps simulated since it was made."""

    def seed(self, generator: np.random.Generator) -> None:
        """Draw sticky actions from `generator` from now on."""
        self._generator, self._delays = generator, []

    def restore(self, state: EmulatorState) -> None:
        """Go on from `state`."""
        self._steps.restoreState(state.state)
        self._executed = state.executed

    def save(self) -> EmulatorState:
        """Where it is."""
        return EmulatorState(self._steps.cloneState(include_rng=False), self._executed)

    def step(self, action: int) -> int:
        """One agent step; returns the raw reward.

        Only a change of action can stick: then the action before runs for as many frames as there are repeats drawn in
        a row, and the new one from there on.
        """
        self.num_steps += 1
        delay = 0 if action == self._executed else self._draw()
        if delay:
            return self._step_late(action, delay)
        self._executed = action
        reward = self._steps.act(self._actions[action])
        self._steps.getRAM(self.ram)
        return int(reward)

    def _step_late(self, action: int, delay: int) -> int:
        self._frames.restoreState(self._steps.cloneState(include_rng=False))
        reward = 0
        for frame in range(self._num_frames):
            if frame == delay:
                self._executed = action
            reward += self._frames.act(self._actions[self._executed])
        self._steps.restoreState(self._frames.cloneState(include_rng=False))
        self._frames.getRAM(self.ram)
        return reward

    def _draw(self) -> int:
        if self._sticky == 0.0:
            return 0
        if not self._delays:
            self._delays = self._delays_drawn()
        return self._delays.pop()

    def _delays_drawn(self) -> list[int]:
        if self._sticky == 1.0:
            return [self._num_frames] * DRAWS
        drawn: list[int] = (self._generator.geometric(1 - self._sticky, DRAWS) - 1).tolist()
        return drawn
