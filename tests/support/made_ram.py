"""Console memory of MsPacman, made by hand: who is where at each state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lapa_ray.envs.mazes import cell_positions
from lapa_ray.envs.ms_pacman import EATEN, FRUIT_AND_LIVES, GHOSTS, LAST_GHOST, MAZE, PHASE, PLAYING, X, Y

FOUR_GHOSTS = len(GHOSTS) - 1
FRIGHTENED = {ghost: address for address, ghost in enumerate(GHOSTS, start=1)}


def made_ram(num_states: int, **cells: Sequence[int] | int) -> NDArray[np.uint8]:
    """RAM uint8 [num_states, 128] with four ghosts; player, sue, …: the cell at each state, cell 0 if not given.

    The game is played at all states.
    """
    ram = np.zeros((num_states, 128), dtype=np.uint8)
    across, down = cell_positions()
    ram[:, LAST_GHOST], ram[:, PHASE] = FOUR_GHOSTS, PLAYING
    for name in ("player", *GHOSTS):
        cell = np.broadcast_to(cells.get(name, 0), num_states)
        ram[:, X[name]], ram[:, Y[name]] = across[cell], down[cell]
    return ram


def set_level(ram: NDArray[np.uint8], states: slice, level: int, maze: int, eaten: Sequence[int]) -> None:
    """Level, maze and dots eaten at `states`."""
    ram[states, FRUIT_AND_LIVES] = level << 4
    ram[states, MAZE] = maze
    ram[states, EATEN] = eaten
