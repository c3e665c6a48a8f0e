"""What the entities of Breakout look like: colours and places on the screen, read off the emulator.

`tests/integration/test_looks.py` holds them against real play.
"""

from __future__ import annotations

import numpy as np

from lapa_ray.envs.breakout import (
    BRICK_COLUMNS,
    BRICK_HEIGHT,
    BRICK_ROWS,
    BRICK_WIDTH,
    BRICKS_LEFT,
    BRICKS_TOP,
    PADDLE_HEIGHT,
    PADDLE_TOP,
    BreakoutEntities,
)
from lapa_ray.envs.entities import Entities
from lapa_ray.envs.looks import SCREEN_ROWS, Cells, Marks, Sought

RED = 70
"""Paddle, ball and the top row of bricks."""
AIR_ROWS, PADDLE_ROWS, INSIDE = (93, 188), (PADDLE_TOP, PADDLE_TOP + PADDLE_HEIGHT), (8, 152)
HEAD_ROWS = 17
LEAST_BALL_PIXELS, LEAST_PADDLE_PIXELS = 4, 16

_CELLS = (
    Cells("score_digits", "Digits of the score", top=5, lefts=(36, 52, 68), height=10, width=12),
    Cells("lives", "Digit of lives", top=5, lefts=(100,), height=10, width=12),
)


class BreakoutLooks:
    """A `Looks`."""

    player = "paddle"
    bands = ((0, HEAD_ROWS), (HEAD_ROWS, SCREEN_ROWS[1]))
    cells = _CELLS

    def sprites(self, entities: Entities) -> tuple[Sought, ...]:
        """Paddle, and ball where it is in the air: among the bricks and at the paddle its colour is not its own."""
        paddle, ball = entities.sprites["player"], entities.sprites["ball"]
        air = ball.present & (ball.top >= AIR_ROWS[0]) & (ball.top + ball.height <= AIR_ROWS[1])
        return (
            Sought("ball", "Ball", ball.left, ball.top, air, ball.width, ball.height, (RED,), LEAST_BALL_PIXELS,
                   AIR_ROWS, INSIDE),
            Sought("paddle", "Paddle", paddle.left, paddle.top, paddle.present, paddle.width, paddle.height, (RED,),
                   LEAST_PADDLE_PIXELS, PADDLE_ROWS, INSIDE),
        )  # fmt: skip

    def marks(self, entities: Entities) -> tuple[Marks, ...]:
        """Bricks, a colour a row."""
        assert isinstance(entities, BreakoutEntities)
        row, column = np.divmod(np.arange(BRICK_ROWS * BRICK_COLUMNS), BRICK_COLUMNS)
        told = entities.bricks.reshape(len(entities.bricks), -1)
        return (
            Marks(
                name="bricks",
                label="Bricks",
                rows=(BRICKS_TOP + BRICK_HEIGHT * row).astype(np.int16),
                columns=(BRICKS_LEFT + BRICK_WIDTH * column).astype(np.int16),
                height=BRICK_HEIGHT,
                width=BRICK_WIDTH,
                group=row,
                told=told,
                judged=np.ones_like(told),
            ),
        )
