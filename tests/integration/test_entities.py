"""Ms. Pac-Man's RAM map against the pixels, rewards and lives of real play."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from lapa_ray.envs.atari_env import AtariEnv, AtariEnvConfig
from lapa_ray.envs.emulator import load_emulator
from lapa_ray.envs.entities import entities_of
from lapa_ray.envs.mazes import COLUMNS, NUM_MAZES, cell_of, dot_pixels, maze_of
from lapa_ray.envs.ms_pacman import EATEN, FRUIT_AND_LIVES, GHOSTS, MAZE, MsPacmanEntities

COLOURS = {"player": 42, "sue": 38, "inky": 184, "pinky": 88, "blinky": 70}
BLUE, WHITE, FLOOR, CHERRY = 150, 12, 144, 68
MAZE_ROWS = 171
INTRO_FRAMES = 280


@dataclass
class Play:
    """Frames of one episode: the picture of each, what RAM said one frame before, and what the game paid."""

    screens: NDArray[np.uint8]
    ram: NDArray[np.uint8]
    rewards: NDArray[np.float32]
    lives: NDArray[np.int8]

    @property
    def entities(self) -> MsPacmanEntities:
        read = entities_of("MsPacman").read(self.ram)
        assert isinstance(read, MsPacmanEntities)
        return read


@pytest.fixture(scope="module")
def play() -> Play:
    """Three lives of turning at random: 2,100 frames or more."""
    env, generator = AtariEnv(AtariEnvConfig()), np.random.default_rng(1)
    steps, direction = [env.reset(1)], 1
    while not steps[-1].is_last:
        if generator.random() < 0.25:
            direction = int(generator.integers(1, 5))
        steps.append(env.step(direction))
    frames = [step.frames for step in steps]
    return Play(
        np.concatenate([frame.screens for frame in frames]),
        np.concatenate([frame.ram for frame in frames]),
        np.concatenate([frame.rewards for frame in frames]),
        np.concatenate([frame.lives for frame in frames]),
    )


@pytest.fixture(scope="module")
def mazes() -> dict[int, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Screens and RAM of each maze's first frames; to get there the count of eaten dots is written into RAM."""
    ale, generator, found = load_emulator("MsPacman"), np.random.default_rng(0), {}
    ale.reset_game()
    for _ in range(INTRO_FRAMES):
        ale.act(0)
    for _ in range(8):
        found.setdefault(int(ale.getRAM()[MAZE]), _look(ale))
        _end_level(ale, generator)
    return found


def _look(ale) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    told = [(ale.act(0), ale.getScreen(), ale.getRAM()) for _ in range(60)]
    return np.array([screen for _, screen, _ in told]), np.array([ram for *_, ram in told])


def _end_level(ale, generator) -> None:
    before, action = ale.getRAM()[FRUIT_AND_LIVES] >> 4, 3
    ale.setRAM(EATEN, 140)
    for frame in range(3000):
        ram = ale.getRAM()
        if ram[FRUIT_AND_LIVES] >> 4 != before:
            break
        ale.setRAM(FRUIT_AND_LIVES, int(ram[FRUIT_AND_LIVES] & 0xF8) | 2)  # lives
        if frame % 20 == 0:
            ale.setRAM(EATEN, int(ram[EATEN]) + 1 if ram[EATEN] < 170 else 140)
        action = int(generator.integers(2, 6)) if generator.random() < 0.05 else action
        ale.act(action)
    for _ in range(INTRO_FRAMES):
        ale.act(0)


def _offset(screen, colour, left, top):
    """How far the box of all pixels of `colour` in the maze begins from (left, top); None where there are too few."""
    rows, columns = np.nonzero(screen[:MAZE_ROWS] == colour)
    return None if len(rows) < 20 else (abs(columns.min() - left), abs(rows.min() - top))


@pytest.mark.parametrize("name", COLOURS)
def test_sprites_are_where_ram_said_one_frame_before(play, name):
    sprite = play.entities.sprites[name]
    lag = entities_of("MsPacman").picture_lag_frames
    offsets = [
        _offset(play.screens[t + lag], COLOURS[name], sprite.left[t], sprite.top[t])
        for t in range(INTRO_FRAMES, len(play.screens) - lag)
    ]
    found = np.array([offset for offset in offsets if offset is not None])
    assert len(found) > (0.9 if name == "player" else 0.25) * len(offsets)  # ghosts are drawn in turn
    assert (found <= 2).all(axis=1).mean() > 0.98


@pytest.mark.parametrize("name", COLOURS)
def test_sprites_are_where_ram_said_in_every_maze(mazes, name):
    lag = entities_of("MsPacman").picture_lag_frames
    for number, (screens, ram) in mazes.items():
        sprite = entities_of("MsPacman").read(ram).sprites[name]
        offsets = [
            _offset(screens[t + lag], COLOURS[name], sprite.left[t], sprite.top[t]) for t in range(len(screens) - lag)
        ]
        found = np.array([offset for offset in offsets if offset is not None])
        assert len(found) > 0.1 * len(offsets), number
        assert (found <= 2).all(), number


@pytest.mark.parametrize("name", GHOSTS)
def test_ghosts_are_seen_in_composites_though_they_flicker(play, name):
    entities = play.entities
    sprite, scared = entities.sprites[name], entities.frightened[:, GHOSTS.index(name)]
    seen = []
    for t in range(INTRO_FRAMES, len(play.screens) - 4, 4):
        top, left = sprite.top[t], sprite.left[t]
        box = play.screens[t + 1 : t + 5, max(0, top - 2) : top + 12, max(0, left - 2) : left + 10]
        seen.append(np.isin(box, (BLUE, WHITE) if scared[t] else COLOURS[name]).sum(axis=(1, 2)).max() > 15)
    assert np.mean(seen) > 0.8


def test_the_fruit_is_where_ram_said_one_frame_before():
    """The first comes with the fiftieth dot; 46 are written into RAM, the others are eaten."""
    ale, generator, action = load_emulator("MsPacman"), np.random.default_rng(0), 3
    ale.reset_game()
    for _ in range(INTRO_FRAMES):
        ale.act(0)
    ale.setRAM(EATEN, 46)
    told = []
    for _ in range(500):
        action = int(generator.integers(2, 6)) if generator.random() < 0.1 else action
        ale.act(action)
        told.append((ale.getScreen(), ale.getRAM()))
    fruit = entities_of("MsPacman").read(np.array([ram for _, ram in told])).sprites["fruit"]
    shown = np.flatnonzero(fruit.present[:-1])
    assert not fruit.present[0]
    assert len(shown) > 200
    offsets = [_offset(told[t + 1][0], CHERRY, fruit.left[t], fruit.top[t]) for t in shown]
    found = np.array([offset for offset in offsets if offset is not None])
    assert len(found) > 0.9 * len(shown)
    assert (found <= 2).all()


def test_score_is_the_sum_of_rewards_at_every_frame(play):
    np.testing.assert_array_equal(play.entities.score, np.cumsum(play.rewards))
    assert play.entities.score[-1] > 300


def test_lives_are_the_emulators_until_the_game_is_over(play):
    np.testing.assert_array_equal(play.entities.lives[:-1], play.lives[:-1])
    assert set(play.entities.lives.tolist()) == {1, 2, 3}
    assert play.lives[-1] == 0


def test_nothing_moves_while_it_is_not_playing_and_a_life_goes_after_dying(play):
    entities = play.entities
    x, y = entities.x["player"].astype(int), entities.y["player"].astype(int)
    moved = (np.diff(x) != 0) | (np.diff(y) != 0)
    still = ~entities.playing[:-1] & ~entities.playing[1:] & (entities.lives[1:] == entities.lives[:-1])
    assert not moved[still & (np.arange(len(still)) > 10)].any()
    assert moved[entities.playing[1:]].mean() > 0.3
    lost = np.flatnonzero(np.diff(entities.lives) < 0)
    assert len(lost) == 2
    assert entities.dying[lost].all()
    assert not entities.dying[entities.playing].any()
    assert set(np.diff(np.flatnonzero(np.diff(entities.dying.astype(int)) == 1)) > 100) == {True}


def test_each_dot_eaten_leaves_the_bitmap(play):
    entities = play.entities
    left = entities.dots.sum(axis=(1, 2)) + entities.pills
    total = left + entities.dots_eaten
    assert entities.dots_eaten[-1] > 30
    assert np.bincount(total[INTRO_FRAMES:]).max() > 0.99 * (len(total) - INTRO_FRAMES)  # a dot may go a frame early
    assert set(total[INTRO_FRAMES:].tolist()) <= {153, 154, 155}


def test_dots_are_drawn_where_the_bitmap_says(play):
    entities = play.entities
    columns, rows = dot_pixels()
    floor = maze_of(0).floor.ravel()
    right = []
    for t in range(INTRO_FRAMES, len(play.screens) - 1, 20):
        shown = play.screens[t + 1][rows, columns] == 74
        right.append((shown == entities.dots[t].ravel())[floor])
    assert np.mean(right) > 0.97  # the rest lies under a sprite, or is a blinking pill


def test_a_ghost_is_blue_or_white_exactly_while_it_is_frightened(play):
    entities = play.entities
    agree = []
    for index, name in enumerate(GHOSTS):
        sprite = entities.sprites[name]
        for t in range(INTRO_FRAMES, len(play.screens) - 1):
            box = play.screens[t + 1, sprite.top[t] : sprite.top[t] + 10, sprite.left[t] : sprite.left[t] + 8]
            own, scared = (box == COLOURS[name]).sum() > 15, np.isin(box, (BLUE, WHITE)).sum() > 15
            if own != scared:
                agree.append(scared == entities.frightened[t, index])
    assert np.mean(agree) > 0.99
    assert (entities.frightened.any(axis=1) <= (entities.fright_timer > 0)).all()


def test_all_four_mazes_have_their_floor_where_the_picture_shows_it(mazes):
    assert sorted(mazes) == list(range(NUM_MAZES))
    columns, rows = dot_pixels()
    for number, (screens, ram) in mazes.items():
        floor = maze_of(number).floor
        shown = np.zeros(floor.size, dtype=bool)
        for cell in range(floor.size):  # a wall's cell is wall all over
            box = screens[:, rows[cell] - 4 : rows[cell] + 6, columns[cell] : columns[cell] + 4]
            shown[cell] = np.isin(box, (FLOOR, COLOURS["player"])).any(axis=0).mean() > 0.6
        house = np.zeros_like(shown)
        house[[6 * COLUMNS + 8, 6 * COLUMNS + 9]] = True
        np.testing.assert_array_equal(shown | house, floor.ravel() | house, err_msg=f"maze {number}")
        entities = entities_of("MsPacman").read(ram)
        total = entities.dots.sum(axis=(1, 2)) + entities.pills + entities.dots_eaten
        assert (total == [154, 150, 158, 154][number]).all()
        assert (entities.level == 2 * number).all()


def test_the_player_walks_on_the_floor(play):
    entities = play.entities
    x, y = entities.x["player"][INTRO_FRAMES:], entities.y["player"][INTRO_FRAMES:]
    inside = (x >= 18) & (x <= 158)
    assert maze_of(0).floor.ravel()[cell_of(x, y)][inside].mean() > 0.99
    assert len(set(cell_of(x, y).tolist())) > 30
