"""Shaping from made memory: potentials telescope, whatever is played; points for lives are what they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapa_ray.core.errors import LapaError
from lapa_ray.core.frames import StepFrames
from lapa_ray.envs.mazes import NUM_CELLS, maze_of
from lapa_ray.envs.ms_pacman import PHASE
from lapa_ray.envs.ms_pacman import dots_of as dots_in
from lapa_ray.envs.shaping import Shaper, ShapingConfig
from tests.support.made_ram import made_ram

GAMMA = 0.9
FLOOR = np.flatnonzero(maze_of(0).floor.ravel()).tolist()
DOTS = range(59, 59 + 3 * 14)


def frames(ram: np.ndarray, lives: int = 3) -> StepFrames:
    """Of a step of one frame."""
    return StepFrames(
        np.zeros((1, 1, 1), np.uint8), ram[None], np.zeros(1, np.int8), np.zeros(1, np.float32),
        np.array([lives], np.int8),
    )  # fmt: skip


def state(player: int, dot_bits: int, playing: bool = True) -> np.ndarray:
    """Memory with the player at a cell and dots by the bits of a number."""
    ram = made_ram(1, player=player)[0]
    ram[DOTS.start : DOTS.stop] = np.random.default_rng(dot_bits).integers(0, 256, len(DOTS)) if dot_bits else 0
    if not playing:
        ram[PHASE] = 3
    return ram


def cells_to_nearest_dot(ram: np.ndarray, player: int) -> int:
    """By a flood from the player, apart from the code's flood from the dots."""
    dots, ring, seen, steps = dots_in(ram).ravel(), {player}, {player}, 0
    while not any(dots[cell] for cell in ring):
        ring = {near for cell in ring for near in maze_of(0).neighbours[cell]} - seen
        seen |= ring
        steps += 1
    return steps


STATES = st.tuples(st.sampled_from(FLOOR), st.integers(1, 50), st.booleans())


@settings(max_examples=60, deadline=None)
@given(states=st.lists(STATES, min_size=2, max_size=8), ends=st.booleans())
def test_a_potential_telescopes(states, ends):
    """Σ γ^t F_t = γ^T Φ_T − Φ_0, with Φ 0 after a terminal: it cannot change which play is best."""
    shaper, weight = Shaper(ShapingConfig(dot_distance=2.0), "MsPacman", GAMMA), 2.0
    shaper.begin(frames(state(*states[0])))
    potentials, total = [0.0], 0.0
    for number, (player, bits, playing) in enumerate(states):
        held = potentials[-1] if number else 0.0
        value = -weight * cells_to_nearest_dot(state(player, bits), player) if playing else held
        potentials.append(value)
    potentials = potentials[1:]
    for number, made in enumerate(states[1:]):
        last = ends and number == len(states) - 2
        total += GAMMA**number * shaper(frames(state(*made)), terminated=last)
    steps = len(states) - 1
    assert total == pytest.approx((0 if ends else GAMMA**steps * potentials[-1]) - potentials[0])


def test_an_episode_begins_without_the_past():
    shaper, fresh = (Shaper(ShapingConfig(dot_distance=1.0), "MsPacman", GAMMA) for _ in range(2))
    far = max(FLOOR, key=lambda cell: cells_to_nearest_dot(state(cell, 7), cell))
    shaper.begin(frames(state(far, 7)))
    shaper(frames(state(far, 7)), terminated=True)
    for one in (shaper, fresh):
        one.begin(frames(state(far, 7, playing=False)))
    told = [one(frames(state(FLOOR[3], 9)), terminated=False) for one in (shaper, fresh)]
    assert told[0] == told[1]


def test_a_lost_life_costs_its_points_once_in_any_game():
    shaper, ram = Shaper(ShapingConfig(life_loss=50), "Breakout", GAMMA), np.zeros(128, np.uint8)
    shaper.begin(frames(ram, lives=5))
    assert [shaper(frames(ram, lives), terminated=False) for lives in (5, 4, 4, 5, 3)] == [0, -50, 0, 0, -100]


def test_a_game_without_dots_is_refused():
    with pytest.raises(LapaError, match=r"--shaping\.dot_distance: where dots lie is known of MsPacman, not of Pong"):
        Shaper(ShapingConfig(dot_distance=0.1), "Pong", GAMMA)


def test_the_grid_has_a_floor():
    assert 100 < len(FLOOR) < NUM_CELLS
