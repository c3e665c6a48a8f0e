"""What the entities of MsPacman look like: colours and places on the screen, read off the emulator.

`tests/integration/test_looks.py` holds them against real play.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lapa_ray.envs.entities import Entities
from lapa_ray.envs.looks import SCREEN_ROWS, Cells, Marks, Sought
from lapa_ray.envs.mazes import DOT_HEIGHT, DOT_WIDTH, PILL_CELLS, all_floors, dot_pixels
from lapa_ray.envs.ms_pacman import GHOSTS, MsPacmanEntities

PLAYER, BLUE, WHITE = 42, 150, 12
GHOST_COLOURS = {"sue": 38, "inky": 184, "pinky": 88, "blinky": 70}
MAZE_ROWS = (0, 171)
LEAST_SPRITE_PIXELS = 16
"""A sprite that is drawn in full has 40 and more."""
CLEAR_PIXELS = 20
"""Frightened ghosts look alike: nearer than this, across and down, they are not told from each other."""

_CELLS = (
    Cells("score_digits", "Digits of the score", top=187, lefts=(55, 63, 71, 79, 87, 95), height=7, width=8),
    Cells("lives", "Icons of lives", top=173, lefts=(12, 28, 44), height=10, width=8),
)


class MsPacmanLooks:
    """A `Looks`."""

    player = "player"
    bands = (MAZE_ROWS, (MAZE_ROWS[1], SCREEN_ROWS[1]))
    cells = _CELLS

    def sprites(self, entities: Entities) -> tuple[Sought, ...]:
        """Player, ghosts by name, ghosts while frightened, fruit; looked for while the game is played."""
        assert isinstance(entities, MsPacmanEntities)
        shown = [_sought("player", "Ms. Pac-Man", entities, entities.playing, (PLAYER,))]
        for index, name in enumerate(GHOSTS):
            own = entities.playing & ~entities.frightened[..., index]
            shown.append(_sought(name, name.capitalize(), entities, own, (GHOST_COLOURS[name],)))
        clear = _clear(entities)
        for index, name in enumerate(GHOSTS):
            scared = entities.playing & entities.frightened[..., index] & clear[..., index]
            shown.append(_sought(name, "Frightened ghosts", entities, scared, (BLUE, WHITE), "frightened"))
        return (*shown, _sought("fruit", "Fruit", entities, entities.playing, ()))

    def marks(self, entities: Entities) -> tuple[Marks, ...]:
        """Dots; power pills, which blink, are none."""
        assert isinstance(entities, MsPacmanEntities)
        columns, rows = dot_pixels()
        floor = all_floors()[entities.maze].reshape(len(entities.maze), -1)
        floor[:, PILL_CELLS] = False
        told = entities.dots.reshape(len(floor), -1) & floor
        group = np.zeros(len(rows), dtype=np.intp)
        return (Marks("dots", "Dots", rows, columns, DOT_HEIGHT, DOT_WIDTH, group, told, floor),)


def _sought(
    sprite_name: str,
    label: str,
    entities: Entities,
    wanted: NDArray[np.bool_],
    colours: tuple[int, ...],
    name: str = "",
) -> Sought:
    sprite = entities.sprites[sprite_name]
    return Sought(
        name=name or sprite_name,
        label=label,
        left=sprite.left,
        top=sprite.top,
        wanted=wanted & sprite.present,
        width=sprite.width,
        height=sprite.height,
        colours=colours,
        least_pixels=LEAST_SPRITE_PIXELS,
        rows=MAZE_ROWS,
        others=(PLAYER, BLUE, WHITE, *GHOST_COLOURS.values()),
    )


def _clear(entities: MsPacmanEntities) -> NDArray[np.bool_]:
    """Which ghosts have no frightened one near, bool [T, 4]."""
    places = [(entities.sprites[name].left, entities.sprites[name].top) for name in GHOSTS]
    clear = np.ones_like(entities.frightened)
    for i, (left, top) in enumerate(places):
        for j, (other_left, other_top) in enumerate(places):
            if i != j:
                apart = (abs(left - other_left) > CLEAR_PIXELS) | (abs(top - other_top) > CLEAR_PIXELS)
                clear[..., i] &= apart | ~entities.frightened[..., j]
    return clear
