"""Entities: console RAM in, where everything of a game is out, by NumPy over any number of frames at once.

A game's map is an `EntityMap`: Ms. Pac-Man's is in `envs.ms_pacman`, Breakout's in `envs.breakout`. Another game is
added by writing one and naming it in `entities_of`. It knows neither emulators nor pictures, but says where a sprite's
pixels are to be looked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.errors import LapaError


class Direction(IntEnum):
    """Where something heads; −1 where RAM does not tell."""

    UNKNOWN = -1
    UP = 0
    RIGHT = 1
    DOWN = 2
    LEFT = 3


@dataclass(frozen=True, slots=True)
class Sprite:
    """One thing that moves, at each frame; all arrays are [...], the shape of the frames.

    left, top int16: pixel column and row of its box's upper left corner; direction int8, see `Direction`; present bool:
    whether it is in the game, be it drawn in this very frame or not (sprites flicker).
    """

    left: NDArray[np.int16]
    top: NDArray[np.int16]
    direction: NDArray[np.int8]
    present: NDArray[np.bool_]
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Entities:
    """What every game has: its moving things by name, the player first; score int32 [...]; lives int8 [...]."""

    sprites: Mapping[str, Sprite]
    score: NDArray[np.int32]
    lives: NDArray[np.int8]


class EntityMap(Protocol):
    """What the RAM of one game means."""

    @property
    def game(self) -> str:
        """Name as in ALE/…-v5."""

    @property
    def sprite_names(self) -> tuple[str, ...]:
        """Names of the moving things, the player first."""

    @property
    def picture_lag_frames(self) -> int:
        """The screen shows what RAM said this many emulator frames before."""

    def read(self, ram: NDArray[np.uint8]) -> Entities:
        """The entities of `ram`, uint8 [..., 128]."""


def entities_of(game: str) -> EntityMap:
    """The map of `game`. Raises `LapaError` for a game whose RAM nobody has read yet."""
    from lapa_ray.envs.breakout import BreakoutMap
    from lapa_ray.envs.ms_pacman import MsPacmanMap

    maps: dict[str, EntityMap] = {MsPacmanMap.game: MsPacmanMap(), BreakoutMap.game: BreakoutMap()}
    if game not in maps:
        raise LapaError(f"game {game}: what its RAM means is not known here; known: {', '.join(maps)}.")
    return maps[game]
