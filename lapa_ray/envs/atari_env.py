"""Atari over ALEInterface: one emulator, every frame kept, sticky actions drawn here so that what ran is known.

It knows neither policies nor datasets. The emulator is deterministic and all chance is our own sticky draw, so an
episode is decided by its seed and the actions asked for, whatever was played before.
"""

from __future__ import annotations

import difflib
import re

import ale_py
import cv2
import numpy as np
from ale_py import ALEInterface, LoggerMode, roms
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from lapa_ray.core.config import Config, Fraction
from lapa_ray.core.errors import LapaError
from lapa_ray.core.frames import NO_ACTION, RAM_BYTES, GameInfo, StepFrames
from lapa_ray.core.pictures import grey_levels, shrink
from lapa_ray.envs.environment import Observation, Step
from lapa_ray.envs.palette import ntsc_palette

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
    """One game of the Arcade Learning Environment."""

    def __init__(self, config: AtariEnvConfig) -> None:
        """Load the ROM (about 0.1 s). Raises `LapaError` for a game that ale-py does not have."""
        self._config = config
        self._ale = _load(config.game)
        self._actions = self._ale.getMinimalActionSet()
        height, width = self._ale.getScreenDims()
        self.info = GameInfo(
            game=config.game,
            palette=ntsc_palette(),
            action_meanings=tuple(action.name for action in self._actions),
            height=height,
            width=width,
            frame_skip=config.frame_skip,
            sticky_probability=config.sticky_probability,
            emulator=f"ale-py {ale_py.__version__}",
        )
        self._grey = grey_levels(self.info.palette)
        self._generator = np.random.default_rng(0)
        self._executed = NOOP
        self._num_frames = 0

    @property
    def num_actions(self) -> int:
        """Size of the game's minimal action set."""
        return len(self._actions)

    def reset(self, seed: int) -> Step:
        """Start an episode; `seed` decides its sticky draws."""
        self._generator = np.random.default_rng(seed)
        self._executed = NOOP
        self._num_frames = 0
        self._ale.reset_game()
        frames = self._new_frames(1)
        self._read_frame(frames, 0, NO_ACTION, 0.0)
        return Step(self._observe(frames.screens), 0.0, terminated=False, truncated=False, frames=frames)

    def step(self, action: int) -> Step:
        """Ask for `action` for one agent step; each frame runs it or, by chance, the action executed before."""
        frames = self._new_frames(self._config.frame_skip)
        sticky = self._generator.random(self._config.frame_skip) < self._config.sticky_probability
        count = 0
        while count < len(sticky) and not self._is_over():
            if not sticky[count]:
                self._executed = action
            reward = self._ale.act(self._actions[self._executed])
            self._read_frame(frames, count, self._executed, reward)
            self._num_frames += 1
            count += 1
        return self._finish(frames if count == len(sticky) else _first(frames, count))

    def _finish(self, frames: StepFrames) -> Step:
        terminated = self._ale.game_over()
        truncated = not terminated and self._num_frames >= self._config.max_frames
        reward = float(frames.rewards.sum())
        return Step(self._observe(frames.screens), reward, terminated, truncated, frames)

    def _is_over(self) -> bool:
        return self._num_frames >= self._config.max_frames or self._ale.game_over()

    def _new_frames(self, count: int) -> StepFrames:
        return StepFrames(
            screens=np.empty((count, self.info.height, self.info.width), dtype=np.uint8),
            ram=np.empty((count, RAM_BYTES), dtype=np.uint8),
            executed_actions=np.empty(count, dtype=np.int8),
            rewards=np.empty(count, dtype=np.float32),
            lives=np.empty(count, dtype=np.int8),
        )

    def _read_frame(self, frames: StepFrames, index: int, executed: int, reward: float) -> None:
        self._ale.getScreen(frames.screens[index])
        self._ale.getRAM(frames.ram[index])
        frames.executed_actions[index] = executed
        frames.rewards[index] = reward
        frames.lives[index] = self._ale.lives()

    def _observe(self, screens: NDArray[np.uint8]) -> Observation:
        grey = [cv2.LUT(screen, self._grey) for screen in screens[-OBS_FRAMES:]]
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


def _load(game: str) -> ALEInterface:
    ALEInterface.setLoggerMode(LoggerMode.Error)
    ale = ALEInterface()
    # The seed serves the emulator's power-up noise alone: the same machine for every episode.
    ale.setInt("random_seed", 0)
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(_rom_path(game))
    return ale


def _rom_path(game: str) -> str:
    known = roms.get_all_rom_ids()
    rom = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", game).lower()
    if rom not in known:
        names = ["".join(part.capitalize() for part in name.split("_")) for name in known]
        near = difflib.get_close_matches(game, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "see ale_py.roms.get_all_rom_ids() for the list."
        raise LapaError(f"game {game}: not among the {len(known)} games of ale-py; {hint}")
    return str(roms.get_rom_path(rom))
