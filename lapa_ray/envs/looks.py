"""Looks: entities in, where and in which colours the pictures should show them out; what a picture is judged by.

Colours are palette indices of the ALE and places are pixels, both read off the emulator's screens. Ms. Pac-Man's looks
are in `envs.ms_pacman_looks`, Breakout's in `envs.breakout_looks`. It looks at no picture itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lapa_ray.envs.entities import Entities

SCREEN_ROWS, SCREEN_COLUMNS = (0, 210), (0, 160)


@dataclass(frozen=True)
class Sought:
    """One sprite at each state, T of them: the picture at state t is asked whether it shows it.

    left, top int16 [T]: its box's upper left corner; wanted bool [T]: whether to look at all. colours: the palette
    indices that it is drawn in; empty if the true picture tells (of those in
    the box that are rare on the picture the commonest, but for `others`).
    least_pixels: fewer of these in the true picture, and the sprite is not shown there (sprites flicker).
    rows, columns: first and last + 1 of the part of the screen in which its colours are its own.
    """

    name: str
    label: str
    left: NDArray[np.int16]
    top: NDArray[np.int16]
    wanted: NDArray[np.bool_]
    width: int
    height: int
    colours: tuple[int, ...]
    least_pixels: int
    rows: tuple[int, int] = SCREEN_ROWS
    columns: tuple[int, int] = SCREEN_COLUMNS
    others: tuple[int, ...] = ()


@dataclass(frozen=True)
class Marks:
    """Small things that lie still until they are gone, N places of one size: dots, bricks.

    rows, columns int [N]: upper left pixel; group int [N]: places of one group are of one colour. told bool [T, N]:
    where RAM says that there is one; judged bool [T, N]: where there can be one.
    """

    name: str
    label: str
    rows: NDArray[np.int16]
    columns: NDArray[np.int16]
    height: int
    width: int
    group: NDArray[np.intp]
    told: NDArray[np.bool_]
    judged: NDArray[np.bool_]


@dataclass(frozen=True)
class Cells:
    """Places in a row of one size that show a sign each, or none: digits, icons of lives."""

    name: str
    label: str
    top: int
    lefts: tuple[int, ...]
    height: int
    width: int


class Looks(Protocol):
    """What the entities of one game look like."""

    @property
    def player(self) -> str:
        """Name of the `Sought` that is the player."""

    @property
    def bands(self) -> Sequence[tuple[int, int]]:
        """First row and last + 1 of the parts of the screen that have colours of their own, from the top."""

    @property
    def cells(self) -> Sequence[Cells]:
        """Score and lives."""

    def sprites(self, entities: Entities) -> Sequence[Sought]:
        """Everything that moves; entities of T states."""

    def marks(self, entities: Entities) -> Sequence[Marks]:
        """Everything that lies still."""


def looks_of(game: str) -> Looks | None:
    """The looks of `game`; None for one at which nobody has looked yet."""
    from lapa_ray.envs.breakout_looks import BreakoutLooks
    from lapa_ray.envs.ms_pacman_looks import MsPacmanLooks

    known: dict[str, Looks] = {"MsPacman": MsPacmanLooks(), "Breakout": BreakoutLooks()}
    return known.get(game)
