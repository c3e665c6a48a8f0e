"""Ms. Pac-Man drawn from made RAM by what the looks say: who is where is known."""

from __future__ import annotations

import numpy as np

from lapa_ray.envs.entities import entities_of
from lapa_ray.envs.looks import looks_of
from lapa_ray.envs.ms_pacman import DOTS, HEADING
from lapa_ray.envs.palette import ntsc_palette
from tests.support.made_ram import made_ram

NUM_STATES, FLOOR, DOT = 9, 144, 74
PALETTE = ntsc_palette()
CELLS = {
    "player": np.arange(NUM_STATES) + 36,
    "sue": 80,
    "inky": 84,
    "pinky": 180,
    "blinky": np.arange(NUM_STATES) + 216,
}


def ram_of() -> np.ndarray:
    """Eight steps in which the player and Blinky go a cell a step; Sue is frightened, all dots are there."""
    ram = made_ram(NUM_STATES, **CELLS)
    ram[:, DOTS : DOTS + 42] = 0xFF
    ram[:, HEADING["sue"]] |= 0x80  # frightened
    return ram


def drawn(ram: np.ndarray) -> np.ndarray:
    """What the looks say that RAM looks like, uint8 [T, 210, 160], on bare floor; below, a score: 1 from state 4."""
    entities, looks = entities_of("MsPacman").read(ram), looks_of("MsPacman")
    screens = np.full((len(ram), 210, 160), FLOOR, dtype=np.uint8)
    screens[:, 171:] = 0
    (dots,) = looks.marks(entities)
    for state, screen in enumerate(screens):
        for row, column in zip(dots.rows[dots.told[state]], dots.columns[dots.told[state]], strict=True):
            screen[row : row + dots.height, column : column + dots.width] = DOT
        for sought in looks.sprites(entities):
            if sought.wanted[state] and sought.colours:
                top, left = int(sought.top[state]), int(sought.left[state])
                screen[top : top + sought.height, left : left + sought.width] = sought.colours[0]
        if state >= 4:
            screen[187:194, 98:100] = 40
    return screens
