"""Reward shaping: what to learn from beside the score, told by lives and console memory. It knows no learner.

A potential Φ adds γ Φ(after) − Φ(before) to each reward, which leaves the best policy as it is (Ng, Harada & Russell
1999); Φ after a terminal is 0. Plain points, such as those for a lost life, change what is best.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lapa_ray.core.config import Config
from lapa_ray.core.errors import LapaError
from lapa_ray.core.frames import StepFrames
from lapa_ray.envs.mazes import NUM_MAZES, cell_of, cells_to_go
from lapa_ray.envs.ms_pacman import MAZE, PHASE, PLAYING, MsPacmanMap, X, Y, targets_of


class ShapingConfig(Config):
    """Reward shaping: what is learnt from beside the score. Logged returns and recorded gameplay hold none of it."""

    life_loss: float = Field(0.0, ge=0)
    """Points off for each life lost, any game; unlike a potential it changes which play is best."""
    dot_distance: float = Field(0.0, ge=0)
    """Points for each cell of the maze by which the nearest dot comes nearer, Ms. Pac-Man only; a potential."""


class Potential(Protocol):
    """Φ of a game, in points before its weight."""

    def __call__(self, ram: NDArray[np.uint8]) -> float:
        """Φ of the state whose memory is `ram`, uint8 [128]."""


class DotPotential:
    """Minus the cells to go from the player to the nearest dot, or pill when these are eaten.

    It stays as it was while the player cannot move: in the intro (0), after a death and between two mazes.
    """

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, ram: NDArray[np.uint8]) -> float:
        """Φ of `ram`."""
        if ram[PHASE] == PLAYING:
            to_go = cells_to_go(int(ram[MAZE]) % NUM_MAZES, targets_of(ram).tobytes())
            self._last = -float(to_go[int(cell_of(int(ram[X["player"]]), int(ram[Y["player"]])))])
        return self._last


class Shaper:
    """The shaping of one environment's rewards, step by step."""

    def __init__(self, config: ShapingConfig, game: str, gamma: float) -> None:
        """`gamma`: the learner's discount a step. Raises `LapaError` where `game` has no such potential."""
        self._config, self._gamma = config, gamma
        self._potential: Potential | None = None
        if config.dot_distance:
            _check_dots(game)
            self._potential = DotPotential()
        self._before = 0.0
        self._lives = 0

    def begin(self, frames: StepFrames) -> None:
        """Begin an episode with its reset's frames."""
        if self._config.dot_distance:
            self._potential = DotPotential()
        self._before, self._lives = self._value(frames), int(frames.lives[-1])

    def __call__(self, frames: StepFrames, *, terminated: bool) -> float:
        """What to add to the reward of the step that `frames` are of; `terminated` as the learner is told."""
        after, lives = self._value(frames), int(frames.lives[-1])
        added = (0.0 if terminated else self._gamma * after) - self._before
        added -= self._config.life_loss * max(0, self._lives - lives)
        self._before, self._lives = after, lives
        return added

    def _value(self, frames: StepFrames) -> float:
        return 0.0 if self._potential is None else self._config.dot_distance * self._potential(frames.ram[-1])


def _check_dots(game: str) -> None:
    if game != MsPacmanMap.game:
        raise LapaError(
            f"--shaping.dot_distance: where dots lie is known of {MsPacmanMap.game}, not of {game}; leave it 0."
        )
