"""A toy of Ms. Pac-Man for the planner: it goes one cell a step, dots pay, some cells kill; no chance."""

from __future__ import annotations

from typing import Any

import numpy as np

from lapa_ray.envs.emulator import EmulatorState
from lapa_ray.envs.mazes import COLUMNS, NUM_CELLS, ROWS, cell_positions, maze_of
from lapa_ray.envs.ms_pacman import DOTS, DYING, EATEN, HEADING, PHASE, PLAYING, X, Y, dots_of

ACTIONS = ("NOOP", "UP", "RIGHT", "LEFT", "DOWN")
HEADING_OF = {1: 0, 2: 1, 3: 3, 4: 2}
POINTS = 10


class ToyMaze:
    """A `Simulation` in maze 0. Its states are (cell, heading, dots left, alive)."""

    def __init__(self, dots: set[int], deadly: set[int] = frozenset(), points: dict[int, int] | None = None) -> None:
        self._dots, self._deadly, self._points = frozenset(dots), frozenset(deadly), points or {}
        self._maze, self._bits = maze_of(0), _dot_bits()
        self._x, self._y = cell_positions()
        self.generators: list[np.random.Generator] = []
        self.ram = np.zeros(128, dtype=np.uint8)
        self.num_steps = 0
        self._now: tuple[int, int, frozenset[int], bool] = (0, 3, self._dots, True)

    def at(self, cell: int, heading: int = 3) -> tuple[EmulatorState, np.ndarray]:
        """The state and RAM of a player in `cell`."""
        self._now = (cell, heading, self._dots - {cell}, True)
        self._tell()
        return self.save(), self.ram.copy()

    def seed(self, generator: np.random.Generator) -> None:
        self.generators.append(generator)

    def restore(self, state: EmulatorState) -> None:
        self._now = state.state

    def save(self) -> EmulatorState:
        kept: Any = self._now
        return EmulatorState(kept, 0)

    def step(self, action: int) -> int:
        self.num_steps += 1
        cell, heading, dots, alive = self._now
        wanted = HEADING_OF.get(action, heading)
        heading = wanted if wanted in self._maze.headings[cell] else heading
        if alive and heading in self._maze.headings[cell]:
            cell = self._maze.neighbours[cell][self._maze.headings[cell].index(heading)]
        reward = self._points.get(cell, POINTS) if alive and cell in dots else 0
        self._now = (cell, heading, dots - {cell}, alive and cell not in self._deadly)
        self._tell()
        return reward

    def _tell(self) -> None:
        cell, heading, dots, alive = self._now
        self.ram[:] = 0
        self.ram[X["player"]], self.ram[Y["player"]] = self._x[cell], self._y[cell]
        self.ram[HEADING["player"]] = heading
        self.ram[PHASE] = PLAYING if alive else DYING.start
        self.ram[EATEN] = len(self._dots) - len(dots)
        for dot in dots:
            byte, mask = self._bits[dot]
            self.ram[byte] |= mask


def cell(row: int, column: int) -> int:
    return row * COLUMNS + column


def _dot_bits() -> dict[int, tuple[int, int]]:
    """Address and mask of each dot's bit, found by asking the map."""
    places = [(DOTS + byte, 1 << bit) for byte in range(3 * ROWS) for bit in range(8)]
    ram = np.zeros((len(places), 128), dtype=np.uint8)
    for number, (byte, mask) in enumerate(places):
        ram[number, byte] = mask
    told = dots_of(ram).reshape(len(places), NUM_CELLS)
    return {int(dots.argmax()): place for dots, place in zip(told, places, strict=True) if dots.any()}
