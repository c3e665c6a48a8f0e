"""The console's memory in Breakout, read: RAM uint8 [..., 128] in, entities out, without a loop over frames.

Addresses of ball, paddle and bricks from AtariARI (Anand et al. 2019); its `score`, byte 84, is no score. That, the
sprites' offsets and the order of the bricks' bits were read off the emulator: bricks are drawn by the console's
playfield registers, PF0 to PF2 for either half. `tests/integration/test_breakout_entities.py` holds all of it against
pixels, rewards and lives of real play.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.frames import RAM_BYTES
from lapa_ray.envs.entities import Direction, Entities, Sprite

PADDLE_X, BALL_X, BALL_Y, LIVES, SCORE_HUNDREDS, SCORE_UNITS = 72, 99, 101, 57, 76, 77
PADDLE_LEFT_OF_X, PADDLE_TOP, PADDLE_WIDTH, PADDLE_HEIGHT = -47, 189, 16, 4
BALL_LEFT_OF_X, BALL_TOP_OF_Y, BALL_WIDTH, BALL_HEIGHT = -49, 9, 2, 4
"""A sprite's box begins here, seen from RAM's x and y. The paddle is half as wide once the ball has met the ceiling."""
BRICK_ROWS, BRICK_COLUMNS = 6, 18
BRICKS_LEFT, BRICKS_TOP, BRICK_WIDTH, BRICK_HEIGHT = 8, 57, 8, 6
"""Pixels of the upper left brick, and of each."""


@dataclass(frozen=True, slots=True)
class BreakoutEntities(Entities):
    """The state of Breakout at each frame: bricks bool [..., 6, 18], where there are any left, the top row first."""

    bricks: NDArray[np.bool_]


class BreakoutMap:
    """An `EntityMap`."""

    game = "Breakout"
    sprite_names = ("player", "ball")
    picture_lag_frames = 0

    def read(self, ram: NDArray[np.uint8]) -> BreakoutEntities:
        """The entities of `ram`, uint8 [..., 128]. Raises `ValueError` for another last axis."""
        if ram.shape[-1] != RAM_BYTES:
            raise ValueError(f"ram has {ram.shape[-1]} bytes instead of {RAM_BYTES}")
        return BreakoutEntities(
            sprites={"player": _paddle(ram), "ball": _ball(ram)},
            score=(100 * _decimal(ram[..., SCORE_HUNDREDS]) + _decimal(ram[..., SCORE_UNITS])).astype(np.int32),
            lives=ram[..., LIVES].astype(np.int8),
            bricks=bricks_of(ram),
        )


def bricks_of(ram: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where bricks are left in `ram` uint8 [..., 128], bool [..., 6, 18], the top row first."""
    rows = np.arange(BRICK_ROWS - 1, -1, -1)  # of each register's six bytes the first one is the lowest row
    return (ram[..., rows[:, None] + _BRICK_BYTES] & _BRICK_MASKS) > 0


def _paddle(ram: NDArray[np.uint8]) -> Sprite:
    left = ram[..., PADDLE_X].astype(np.int16) + np.int16(PADDLE_LEFT_OF_X)
    return _sprite(left, np.full_like(left, PADDLE_TOP), np.ones(left.shape, np.bool_), PADDLE_WIDTH, PADDLE_HEIGHT)


def _ball(ram: NDArray[np.uint8]) -> Sprite:
    left = ram[..., BALL_X].astype(np.int16) + np.int16(BALL_LEFT_OF_X)
    top = ram[..., BALL_Y].astype(np.int16) + np.int16(BALL_TOP_OF_Y)
    return _sprite(left, top, ram[..., BALL_Y] > 0, BALL_WIDTH, BALL_HEIGHT)


def _sprite(
    left: NDArray[np.int16], top: NDArray[np.int16], present: NDArray[np.bool_], width: int, height: int
) -> Sprite:
    unknown = np.full(left.shape, Direction.UNKNOWN, dtype=np.int8)
    return Sprite(left, top, unknown, present, width, height)


def _decimal(digits: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The number that two decimal digits a byte spell."""
    return ((digits >> 4) * np.int32(10) + (digits & 15)).astype(np.int32)


def _brick_bits() -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """Of each column, the first byte of its register and the mask of its two bits.

    Registers lie in RAM from right to left. PF0 shows its upper four bits from the lowest on, PF1 all from the highest,
    PF2 all from the lowest; the walls take two bits of the outermost.
    """
    upward, downward = (0b11, 0b1100, 0b110000, 0b11000000), (0b11000000, 0b110000, 0b1100, 0b11)
    left = [(30, upward[3]), *((24, mask) for mask in downward), *((18, mask) for mask in upward)]
    right = [*((12, mask) for mask in upward[2:]), *((6, mask) for mask in downward), *((0, m) for m in upward[:3])]
    columns = left + right
    return np.array([first for first, _ in columns]), np.array([mask for _, mask in columns], dtype=np.uint8)


_BRICK_BYTES, _BRICK_MASKS = _brick_bits()
