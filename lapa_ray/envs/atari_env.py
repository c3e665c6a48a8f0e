"""Atari over ALEInterface: one emulator, every frame kept, sticky actions drawn here so that what ran is known.

Actions in, observations and emulator frames out; it knows neither policies nor datasets. All chance is our own sticky
draw: an episode is decided by its seed and the actions asked for, whatever was played before.
"""

from __future__ import annotations

from typing import Literal

import ale_py
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from lapa_ray.core.config import Config, Fraction
from lapa_ray.core.frames import NO_ACTION, GameInfo, StepFrames
from lapa_ray.core.pictures import OBS_SIZE
from lapa_ray.envs.emulator import EmulatorState, load_emulator
from lapa_ray.envs.environment import Step
from lapa_ray.envs.observer import Observer
from lapa_ray.envs.palette import palette_of
from lapa_ray.envs.reels import LastFrameReel, Reel, WholeReel

NOOP = 0
STEPS_DRAWN_AT_ONCE = 256


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
    obs_size: int = Field(OBS_SIZE, ge=36, le=160)
    """Height and width of what the policy sees, pixels."""
    obs_channels: Literal[1, 3] = 1
    """What the policy sees: 1 is grey, 3 RGB."""

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """Shape of an observation: (height, width), or (height, width, 3) in RGB."""
        return (self.obs_size, self.obs_size) if self.obs_channels == 1 else (self.obs_size, self.obs_size, 3)


class AtariEnv:
    """One game of the Arcade Learning Environment; an `Environment`.

    Observations equal Gymnasium's AtariPreprocessing, but for the one of a step that the end of the episode cut short:
    here it shows the last frames that there were, there what the step before left in its buffers.
    """

    def __init__(self, config: AtariEnvConfig, *, keep_frames: bool = True) -> None:
        """Load the ROM (about 0.1 s). Raises `LapaError` for a game that there is not.

        Without `keep_frames`, for those who record nothing, the frames of a step are its last one alone, whose reward
        is the step's; everything else is the same.
        """
        self._config, self._keep_frames = config, keep_frames
        self._ale = load_emulator(config.game)
        palette = palette_of(self._ale)
        self._ale.reset_game()
        # Memory holds noise at power-up, by which many games draw lots: every episode starts from this one state.
        self._start = self._ale.cloneState(include_rng=True)
        self._start_screen, self._start_ram = self._ale.getScreen(), self._ale.getRAM()
        actions = self._ale.getMinimalActionSet()
        self._actions = [action.value for action in actions]
        self.info = self._describe(palette, [action.name for action in actions])
        self._observer = Observer(palette, self.info.height, self.info.width, config.obs_shape)
        self._generator = np.random.default_rng(0)
        self._repeats: list[list[bool]] = []
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
        self._generator, self._repeats = np.random.default_rng(seed), []
        self._executed = NOOP
        self._num_frames = 0
        self._over = False
        self._ale.reset_game()  # clears the picture, which is no part of the state
        self._ale.restoreState(self._start)
        frames = StepFrames(
            screens=self._start_screen[None].copy(),
            ram=self._start_ram[None].copy(),
            executed_actions=np.full(1, NO_ACTION, dtype=np.int8),
            rewards=np.zeros(1, dtype=np.float32),
            lives=np.array([self._ale.lives()], dtype=np.int8),
        )
        frames.screens.setflags(write=False)
        return Step(self._observer(frames.screens), 0.0, terminated=False, truncated=False, frames=frames)

    def step(self, action: int) -> Step:
        """Ask for `action` for one agent step; each frame runs it or, by chance, the action executed before.

        Raises `ValueError` before a reset and after the episode's end.
        """
        if self._over:
            raise ValueError("the episode has ended: reset first")
        reel = self._reel()
        reward = self._play(action, reel)
        terminated = self._ale.game_over()
        truncated = not terminated and self._num_frames >= self._config.max_frames
        self._over = terminated or truncated
        return Step(self._observer(reel.screens()), reward, terminated, truncated, reel.develop())

    def snapshot(self) -> EmulatorState:
        """Where the game is now; the sticky draws to come are no part of it."""
        return EmulatorState(self._ale.cloneState(include_rng=False), self._executed)

    def _reel(self) -> Reel:
        shape = (self.info.height, self.info.width)
        if self._keep_frames:
            return WholeReel(self._ale, shape, self._config.frame_skip)
        return LastFrameReel(self._ale, shape)

    def _play(self, action: int, reel: Reel) -> float:
        """Run the emulator for one step, or to the episode's end; returns the raw score."""
        ale, total = self._ale, 0.0
        for repeats in self._drawn():
            if not repeats:
                self._executed = action
            reward = ale.act(self._actions[self._executed])
            reel.take(self._executed, reward)
            total += reward
            self._num_frames += 1
            if ale.game_over() or self._num_frames >= self._config.max_frames:
                break
        return total

    def _drawn(self) -> list[bool]:
        """Of each frame of the next step whether it repeats what ran before; drawn for many steps at once."""
        if not self._repeats:
            draws = self._generator.random((STEPS_DRAWN_AT_ONCE, self._config.frame_skip))
            self._repeats = (draws < self._config.sticky_probability)[::-1].tolist()
        return self._repeats.pop()
