"""The mazes of the game: where the floor is in all four, on the grid of 14 × 18 cells that dots and corridors follow.

Read off the emulator's screens. A cell's number is row · 18 + column. Positions are those that RAM tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS = 14, 18
NUM_CELLS = ROWS * COLUMNS
NUM_MAZES = 4
FAR = 10_000
"""The distance to where no way leads."""
FARTHEST_PULL_CELLS = 60
"""A way that is longer counts as this long."""

DOT_WIDTH, DOT_HEIGHT = 4, 2

# The left halves, side by side; the right ones mirror them. # is wall.
_LEFT_HALVES = """
....#....  .........  ......#..  .........
.##.#.###  .####.###  .##.#...#  .#.##.###
.........  ..#...#..  ....#.#..  .#....#..
#.#.##.##  #.#.#.#.#  ##.##.###  .##.#.#.#
..#......  #.#.#....  .........  ....#....
#.####.##  ....##.##  .##.##.##  #.#.##.##
#......##  .##....##  .#...#.##  ..#....##
#.####.##  .##.##.##  .#.#.#.##  ###.##.##
..#......  .##.#....  ...#.....  ..#.#....
#.#.#.#.#  ......###  ##.##.#.#  #.#.#.#.#
....#.#..  ##.##.#..  ......#..  ......#..
.##.#...#  ....#...#  .#.##...#  .#.##.###
.##.###.#  .##.#.###  .#.##.#.#  .#.##.#..
.........  ....#....  ......#..  ........#
"""
_TUNNEL_ROWS = ((4, 8), (5, 13), (8,), (6, 8))


PILL_CELLS = np.array([12 * COLUMNS + 17, COLUMNS + 17, 12 * COLUMNS, COLUMNS])
"""Where the four power pills lie, in every maze, in the order of RAM's bits."""


@dataclass(frozen=True)
class Maze:
    """One maze. floor bool [14, 18]; neighbours: the cells next to each cell along corridors and through tunnels.

    headings: in which directions (up 0, right 1, down 2, left 3) a way leads out of each cell.
    """

    floor: NDArray[np.bool_]
    neighbours: tuple[tuple[int, ...], ...]
    headings: tuple[tuple[int, ...], ...]

    def distances(self, targets: NDArray[np.intp]) -> NDArray[np.int32]:
        """Cells to go from each cell to the nearest of `targets`, int32 [252]; `FAR` where no way leads."""
        distance = np.full(NUM_CELLS, FAR, dtype=np.int32)
        ring = [int(cell) for cell in targets]
        distance[ring] = 0
        reached, steps = set(ring), 0
        while ring:
            steps += 1
            ring = [cell for cell in {near for cell in ring for near in self.neighbours[cell]} if cell not in reached]
            reached.update(ring)
            distance[ring] = steps
        return distance


@cache
def maze_of(number: int) -> Maze:
    """Maze `number` (RAM's, 0 to 3). Raises `IndexError` for others."""
    halves = [line.split()[number] for line in _LEFT_HALVES.split("\n") if line]
    floor = np.array([[mark == "." for mark in half + half[::-1]] for half in halves])
    floor.setflags(write=False)
    ways = [_ways(floor, number, cell) for cell in range(NUM_CELLS)]
    return Maze(floor, tuple(tuple(way.values()) for way in ways), tuple(tuple(way) for way in ways))


@cache
def all_floors() -> NDArray[np.bool_]:
    """The floors of all mazes, bool [4, 14, 18]."""
    return np.stack([maze_of(number).floor for number in range(NUM_MAZES)])


@lru_cache(maxsize=16)
def cells_to_go(maze: int, targets: bytes) -> list[int]:
    """Cells from each cell of maze number `maze` to the nearest of `targets`, bool [252] as bytes; 60 at most."""
    found = np.flatnonzero(np.frombuffer(targets, dtype=np.bool_))
    distances: list[int] = np.minimum(maze_of(maze).distances(found), FARTHEST_PULL_CELLS).tolist()
    return distances


def cell_of(x: NDArray[np.integer] | int, y: NDArray[np.integer] | int) -> NDArray[np.intp]:
    """The cell nearest to RAM positions, in the same shape."""
    across, down = np.asarray(x, dtype=np.int64), np.asarray(y, dtype=np.int64)
    # Cells are 8 apart, and 12 across the middle, where a position in between belongs to the nearer side.
    column = np.where(across <= 88, (across - 14) // 8, (across - 90) // 8 + 9)
    row = (down + 4) // 12
    return np.clip(row, 0, ROWS - 1) * COLUMNS + np.clip(column, 0, COLUMNS - 1)


def cell_positions() -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """RAM's x and y at the centre of each cell, each int16 [252]."""
    column, row = np.arange(NUM_CELLS) % COLUMNS, np.arange(NUM_CELLS) // COLUMNS
    x = 18 + 8 * column + np.where(column < COLUMNS // 2, 0, 4)
    return x.astype(np.int16), (2 + 12 * row).astype(np.int16)


def dot_pixels() -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Pixel column and row of the upper left corner of each cell's dot, 4 × 2 pixels; each int16 [252]."""
    x, y = cell_positions()
    return x - np.int16(10), y + np.int16(5)


def _ways(floor: NDArray[np.bool_], number: int, cell: int) -> dict[int, int]:
    """Heading to neighbour."""
    row, column = divmod(cell, COLUMNS)
    if not floor[row, column]:
        return {}
    places = {0: (row - 1, column), 1: (row, column + 1), 2: (row + 1, column), 3: (row, column - 1)}
    if row in _TUNNEL_ROWS[number] and column in (0, COLUMNS - 1):
        places[1 if column else 3] = (row, COLUMNS - 1 - column)
    inside = {h: (r, c) for h, (r, c) in places.items() if 0 <= r < ROWS and 0 <= c < COLUMNS and floor[r, c]}
    return {heading: r * COLUMNS + c for heading, (r, c) in inside.items()}
