"""Breakout's RAM map against the pixels, rewards and lives of real play."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from lapa_ray.envs.breakout import (
    BRICK_COLUMNS,
    BRICK_HEIGHT,
    BRICK_ROWS,
    BRICK_WIDTH,
    BRICKS_LEFT,
    BRICKS_TOP,
    BreakoutEntities,
)
from lapa_ray.envs.emulator import load_emulator
from lapa_ray.envs.entities import entities_of

FLOOR_ROWS, AIR_ROWS, INSIDE = slice(189, 193), slice(93, 188), slice(8, 152)
RED, FIRE, RIGHT, LEFT = 70, 1, 2, 3
MOST_FRAMES, KEPT_EACH = 7000, 3


@dataclass
class Play:
    """Every third frame of one game: the picture of each, its RAM, the score and the lives that the emulator tells."""

    screens: NDArray[np.uint8]
    ram: NDArray[np.uint8]
    scores: NDArray[np.float64]
    lives: NDArray[np.int64]

    @property
    def entities(self) -> BreakoutEntities:
        read = entities_of("Breakout").read(self.ram)
        assert isinstance(read, BreakoutEntities)
        return read


@pytest.fixture(scope="module")
def play() -> Play:
    """Five lives of following the ball, not quite in its middle: past a hundred points."""
    ale, generator = load_emulator("Breakout"), np.random.default_rng(1)
    actions = ale.getMinimalActionSet()
    ale.reset_game()
    frames, aside, score = [], 0, 0
    for number in range(MOST_FRAMES):
        ram = ale.getRAM()
        aside = int(generator.integers(-7, 8)) if number % 60 == 0 else aside
        away = int(ram[99]) + aside - int(ram[72]) - 6
        score += ale.act(actions[FIRE if ram[101] == 0 else RIGHT if away > 3 else LEFT if away < -3 else 0])
        if ale.game_over():
            break
        if number % KEPT_EACH == 0:
            frames.append((ale.getScreen(), ale.getRAM(), score, ale.lives()))
    return Play(*(np.array(column) for column in zip(*frames, strict=True)))


def test_score_and_lives_are_the_emulators(play):
    assert play.scores[-1] > 100
    np.testing.assert_array_equal(play.entities.score, play.scores)
    assert (play.entities.lives == play.lives).mean() > 0.99  # at the end of one the two differ for a frame or so
    assert set(play.entities.lives[play.entities.lives != play.lives].tolist()) <= set(range(6))


@pytest.mark.parametrize(("name", "rows"), [("player", FLOOR_ROWS), ("ball", AIR_ROWS)])
def test_sprites_are_where_ram_says(play, name, rows):
    sprite, offsets = play.entities.sprites[name], []
    for t in range(10, len(play.screens)):
        down, across = np.nonzero(play.screens[t, rows, INSIDE] == RED)
        apart = sprite.top[t] + sprite.height < rows.stop - 1  # the ball and the paddle are of one colour
        if sprite.present[t] and len(down) and (name == "player" or (apart and sprite.top[t] > rows.start)):
            offsets.append((across.min() + INSIDE.start - sprite.left[t], down.min() + rows.start - sprite.top[t]))
    assert len(offsets) > 0.4 * len(play.screens)
    assert (np.abs(offsets) <= 2).all(axis=1).mean() > 0.97


def test_the_ball_is_seen_just_where_it_is_present(play):
    ball = play.entities.sprites["ball"]
    inside = (ball.top > AIR_ROWS.start) & (ball.top + ball.height < AIR_ROWS.stop)
    seen = (play.screens[:, AIR_ROWS, INSIDE] == RED).any(axis=(1, 2))
    assert seen[ball.present & inside].mean() > 0.97
    assert not seen[~ball.present].any()


def test_bricks_are_drawn_where_the_bits_say(play):
    rows = BRICKS_TOP + BRICK_HEIGHT * np.arange(BRICK_ROWS) + BRICK_HEIGHT // 2
    columns = BRICKS_LEFT + BRICK_WIDTH * np.arange(BRICK_COLUMNS)
    colours = play.screens[0][rows, columns[0]]
    assert len(set(colours.tolist())) == BRICK_ROWS
    shown = (play.screens[:, rows][:, :, columns] == colours[:, None]) & (
        play.screens[:, rows][:, :, columns + BRICK_WIDTH - 1] == colours[:, None]
    )
    bricks = play.entities.bricks
    assert (shown == bricks).mean() > 0.999  # the rest lies under the ball
    lost = ~bricks[-1]
    assert lost.any(axis=0).sum() >= 14  # bits of nearly all columns were seen to go
    assert play.entities.score[-1] >= lost.sum()
