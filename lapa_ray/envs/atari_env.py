"""Atari over ALEInterface: one emulator, every frame kept, sticky actions drawn here so that what ran is known.

Actions in, observations and emulator frames out; it knows neither policies nor datasets. All chance is our own sticky
draw: an episode is decided by its seed and the actions asked for, whatever was played before.
"""

from __future__ import annotations

import ale_py
import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from lapa_ray.core.config import Config, Fraction
from lapa_ray.core.frames import NO_ACTION, RAM_BYTES, GameInfo, StepFrames
from lapa_ray.core.pictures import grey_levels, shrink
from lapa_ray.envs.emulator import EmulatorState, load_emulator
from lapa_ray.envs.environment import Observation, Step
from lapa_ray.envs.palette import palette_of

NOOP = 0
OBS_FRAMES = 2
"""An observation is the pixel-wise maximum of the last two grey frames (Mnih et al. 2015)."""


class AtariEnvConfig(Config):
    """The game, as ALE/…-v5 has it."""

    game: str = "MsPacman"
    """Name of the game, as in ALE/MsPacman-v5."""
    frame_skip: int = Field(4, ge=1, le=16)
    """Emulator frames an agent step."""
    sticky_probability: Fraction = 0.25
    """Chance, each emulator frame, that the action executed before runs again (Machado et al. 2018)."""
    max_frames: PositiveInt = 108_000
    """Emulator frames after which an episode is truncated; 108,000 are 30 minutes of play."""


class AtariEnv:
    """One game of the Arcade Learning Environment; an `Environment`.

    Observations equal Gymnasium's AtariPreprocessing, but for the one of a step that the end of the episode cut short:
    here it shows the last frames that there were, there what the step before left in its buffers.
    """

    def __init__(self, config: AtariEnvConfig) -> None:
        """Load the ROM (about 0.1 s). Raises `LapaError` for a game that there is not."""
        self._config = config
        self._ale = load_emulator(config.game)
        palette = palette_of(self._ale)
        self._ale.reset_game()
        # Memory holds noise at power-up, by which many games draw lots: every episode starts from this one state.
        self._start = self._ale.cloneState(include_rng=True)
        self._start_screen, self._start_ram = self._ale.getScreen(), self._ale.getRAM()
        actions = self._ale.getMinimalActionSet()
        self._actions = [action.value for action in actions]
        self.info = self._describe(palette, [action.name for action in actions])
        self._grey = grey_levels(self.info.palette)
        self._generator = np.random.default_rng(0)
        self._executed = NOOP
        self._num_frames = 0
        self._over = True

    def _describe(self, palette: NDArray[np.uint8], action_meanings: list[str]) -> GameInfo:
        height, width = self._ale.getScreenDims()
        return GameInfo(
            game=self._config.game,
            palette=palette,
            action_meanings=tuple(action_meanings),
            height=height,
            width=width,
            frame_skip=self._config.frame_skip,
            sticky_probability=self._config.sticky_probability,
            emulator=f"ale-py {ale_py.__version__}",
        )

    @property
    def num_actions(self) -> int:
        """Size of the game's minimal action set."""
        return len(self._actions)

    def reset(self, seed: int) -> Step:
        """Start an episode; `seed` decides its sticky draws."""
        self._generator = np.random.default_rng(seed)
        self._executed = NOOP
        self._num_frames = 0
        self._over = False
        self._ale.reset_game()  # clears the picture, which is no part of the state
        self._ale.restoreState(self._start)
        frames = self._new_frames(1)
        self._note(frames, 0, NO_ACTION, 0.0)
        frames.screens[0], frames.ram[0] = self._start_screen, self._start_ram
        return Step(self._observe(frames.screens), 0.0, terminated=False, truncated=False, frames=frames)

    def step(self, action: int) -> Step:
        """Ask for `action` for one agent step; each frame runs it or, by chance, the action executed before.

        Raises `ValueError` before a reset and after the episode's end.
        """
        if self._over:
            raise ValueError("the episode has ended: reset first")
        frames = self._new_frames(self._config.frame_skip)
        count = self._play(action, frames)
        if count < self._config.frame_skip:
            frames = _first(frames, count)
        terminated = self._ale.game_over()
        truncated = not terminated and self._num_frames >= self._config.max_frames
        self._over = terminated or truncated
        return Step(self._observe(frames.screens), float(frames.rewards.sum()), terminated, truncated, frames)

    def snapshot(self) -> EmulatorState:
        """Where the game is now; the sticky draws to come are no part of it."""
        return EmulatorState(self._ale.cloneState(include_rng=False), self._executed)

    def _play(self, action: int, frames: StepFrames) -> int:
        """Run the emulator for one step into `frames`; returns how many frames there were until the end."""
        sticky = self._generator.random(self._config.frame_skip) < self._config.sticky_probability
        for index, repeats in enumerate(sticky.tolist()):
            if not repeats:
                self._executed = action
            reward = self._ale.act(self._actions[self._executed])
            self._ale.getScreen(frames.screens[index])
            self._ale.getRAM(frames.ram[index])
            self._note(frames, index, self._executed, reward)
            self._num_frames += 1
            if self._ale.game_over() or self._num_frames >= self._config.max_frames:
                return index + 1
        return self._config.frame_skip

    def _new_frames(self, count: int) -> StepFrames:
        return StepFrames(
            screens=np.empty((count, self.info.height, self.info.width), dtype=np.uint8),
            ram=np.empty((count, RAM_BYTES), dtype=np.uint8),
            executed_actions=np.empty(count, dtype=np.int8),
            rewards=np.empty(count, dtype=np.float32),
            lives=np.empty(count, dtype=np.int8),
        )

    def _note(self, frames: StepFrames, index: int, executed: int, reward: float) -> None:
        frames.executed_actions[index] = executed
        frames.rewards[index] = reward
        frames.lives[index] = self._ale.lives()

    def _observe(self, screens: NDArray[np.uint8]) -> Observation:
        last = screens[-OBS_FRAMES:]
        grey = cv2.LUT(last.reshape(-1, self.info.width), self._grey).reshape(last.shape)
        return shrink(grey[0] if len(grey) == 1 else cv2.max(grey[0], grey[1]))


def _first(frames: StepFrames, count: int) -> StepFrames:
    """The first `count` frames of a step that the end of the episode cut short."""
    return StepFrames(
        frames.screens[:count],
        frames.ram[:count],
        frames.executed_actions[:count],
        frames.rewards[:count],
        frames.lives[:count],
    )
