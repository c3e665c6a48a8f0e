"""The console's memory in MsPacman, read: RAM uint8 [..., 128] in, entities out, without a loop over frames.

Addresses from AtariARI (Anand et al. 2019) and OCAtari (Delfosse et al. 2023); the ghosts' headings and fright and the
picture's lag were read off the emulator. `tests/integration/test_entities.py` holds all of it against pixels, rewards
and lives of real play. It knows no emulator; the mazes that dots lie in are in `envs.mazes`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.frames import RAM_BYTES
from lapa_ray.envs.entities import Direction, Entities, Sprite
from lapa_ray.envs.mazes import COLUMNS, NUM_MAZES, PILL_CELLS, ROWS, all_floors

GHOSTS = ("sue", "inky", "pinky", "blinky")
SPRITE_WIDTH, SPRITE_HEIGHT = 8, 10
LEFT_OF_X, TOP_OF_Y = -12, 1
"""A sprite's box begins here, seen from RAM's x and y."""
LAST_TOLD_LEVEL = 7
"""RAM tells the level by its fruit; from the eighth (number 7) on fruits are drawn by lot."""

X = {"player": 10, "sue": 6, "inky": 7, "pinky": 8, "blinky": 9, "fruit": 11}
Y = {"player": 16, "sue": 12, "inky": 13, "pinky": 14, "blinky": 15, "fruit": 17}
HEADING = {"player": 56, "sue": 1, "inky": 2, "pinky": 3, "blinky": 4}
MAZE, LAST_GHOST, DOTS, FRIGHT, PILLS, LATE, EATEN, SCORE, FRUIT_AND_LIVES = 0, 19, 59, 116, 117, 118, 119, 120, 123
PHASE = 39
"""What the game does: PLAYING, or a number that counts up while it stands still."""
PLAYING, DYING, EATING_GHOST = 255, range(73, 90), range(51, 55)
_FRIGHTENED, _HEADING_BITS = 0x80, 3
_PILL_BITS = np.array([4, 8, 16, 32], dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class MsPacmanEntities(Entities):
    """The state of Ms. Pac-Man at each frame; arrays are [...], the shape of the frames, if nothing else is said.

    x, y: RAM's position of each sprite, int16, by name. Left and right ends of tunnels lie outside the grid of dots.
    frightened bool [..., 4]: which ghosts can be eaten, in the order of `GHOSTS`.
    fright_timer int16: counts down while any is; ghosts_eaten int8: on this pill. num_ghosts int8, 1 to 4.
    dots bool [..., 14, 18]: where dots are left, see `envs.mazes`; dots_eaten int16: this level, pills too.
    playing bool: whether the player can move; False in the intro, after a death, a cleared maze and an eaten ghost.
    dying bool: in the second after a death, before the life is lost. pills int8: power pills left.
    level int8: from 0; 7 stands for 7 and later ones. maze int8: 0 to 3.
    """

    x: dict[str, NDArray[np.int16]]
    y: dict[str, NDArray[np.int16]]
    frightened: NDArray[np.bool_]
    fright_timer: NDArray[np.int16]
    ghosts_eaten: NDArray[np.int8]
    num_ghosts: NDArray[np.int8]
    dots: NDArray[np.bool_]
    dots_eaten: NDArray[np.int16]
    playing: NDArray[np.bool_]
    dying: NDArray[np.bool_]
    pills: NDArray[np.int8]
    level: NDArray[np.int8]
    maze: NDArray[np.int8]


class MsPacmanMap:
    """An `EntityMap`."""

    game = "MsPacman"
    sprite_names = ("player", *GHOSTS, "fruit")
    picture_lag_frames = 1

    def read(self, ram: NDArray[np.uint8]) -> MsPacmanEntities:
        """The entities of `ram`, uint8 [..., 128]. Raises `ValueError` for another last axis."""
        if ram.shape[-1] != RAM_BYTES:
            raise ValueError(f"ram has {ram.shape[-1]} bytes instead of {RAM_BYTES}")
        x = {name: ram[..., X[name]].astype(np.int16) for name in self.sprite_names}
        y = {name: ram[..., Y[name]].astype(np.int16) for name in self.sprite_names}
        maze = ram[..., MAZE] % NUM_MAZES
        return MsPacmanEntities(
            sprites={name: _sprite(name, ram, x[name], y[name]) for name in self.sprite_names},
            score=score_of(ram),
            lives=((ram[..., FRUIT_AND_LIVES] & 7) + 1).astype(np.int8),
            x=x,
            y=y,
            frightened=np.stack([(ram[..., HEADING[name]] & _FRIGHTENED) > 0 for name in GHOSTS], axis=-1),
            fright_timer=(ram[..., FRIGHT] & 63).astype(np.int16),
            ghosts_eaten=(ram[..., FRIGHT] >> 6).astype(np.int8),
            num_ghosts=_num_ghosts(ram),
            dots=dots_of(ram),
            dots_eaten=ram[..., EATEN].astype(np.int16),
            playing=ram[..., PHASE] == PLAYING,
            dying=(ram[..., PHASE] >= DYING.start) & (ram[..., PHASE] < DYING.stop),
            pills=((ram[..., PILLS, None] & _PILL_BITS) > 0).sum(axis=-1, dtype=np.int8),
            level=np.where(ram[..., LATE] & 64, LAST_TOLD_LEVEL, ram[..., FRUIT_AND_LIVES] >> 4).astype(np.int8),
            maze=maze.astype(np.int8),
        )


def score_of(ram: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The score of `ram` uint8 [..., 128], int32 [...]: three bytes of two decimal digits, the low one first."""
    digits = ram[..., SCORE : SCORE + 3].astype(np.int32)
    return ((digits >> 4) * 10 + (digits & 15)) @ np.array([1, 100, 10_000], dtype=np.int32)


def dots_of(ram: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where dots are left in `ram` uint8 [..., 128], bool [..., 14, 18]; power pills are none of them."""
    rows = ram[..., DOTS : DOTS + 3 * ROWS].reshape(*ram.shape[:-1], ROWS, 3)
    bits = (rows[..., _DOT_BYTES] & _DOT_MASKS) > 0
    return bits & all_floors()[ram[..., MAZE] % NUM_MAZES]  # walls have bits, too


def targets_of(ram: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Cells to go to in `ram` uint8 [128], bool [252]: those of dots, and when these are eaten those of pills."""
    targets = dots_of(ram).ravel()
    if not targets.any():
        targets[PILL_CELLS[(ram[PILLS] & _PILL_BITS) > 0]] = True
    return targets


def _sprite(name: str, ram: NDArray[np.uint8], x: NDArray[np.int16], y: NDArray[np.int16]) -> Sprite:
    unknown = np.full(ram.shape[:-1], Direction.UNKNOWN, dtype=np.int8)
    return Sprite(
        left=x + np.int16(LEFT_OF_X),
        top=y + np.int16(TOP_OF_Y),
        direction=(ram[..., HEADING[name]] & _HEADING_BITS).astype(np.int8) if name in HEADING else unknown,
        present=_present(name, ram, x, y),
        width=SPRITE_WIDTH,
        height=SPRITE_HEIGHT,
    )


def _present(name: str, ram: NDArray[np.uint8], x: NDArray[np.int16], y: NDArray[np.int16]) -> NDArray[np.bool_]:
    if name in GHOSTS:
        return _num_ghosts(ram) > GHOSTS.index(name)
    return (x > 0) & (y > 0)


def _num_ghosts(ram: NDArray[np.uint8]) -> NDArray[np.int8]:
    return ((ram[..., LAST_GHOST] & 3) + 1).astype(np.int8)


def _dot_bits() -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """Of each column, which of its row's three bytes tells of its dot, and the bit's mask."""
    places = {0: (0, 6), 17: (0, 4)}
    for bit in range(8):
        half = bit // 2
        places[4 - half if bit % 2 else 12 - half] = (1, bit)
        places[13 + half if bit % 2 else 5 + half] = (2, bit)
    ordered = [places[column] for column in range(COLUMNS)]
    return np.array([byte for byte, _ in ordered]), np.array([1 << bit for _, bit in ordered], dtype=np.uint8)


_DOT_BYTES, _DOT_MASKS = _dot_bits()
