"""What happened in a step, read from memory made by hand; and which codes answer it."""

from __future__ import annotations

import numpy as np
import pytest

from lapa_ray.envs.breakout import BALL_X, BALL_Y, PADDLE_X, BreakoutMap
from lapa_ray.envs.ms_pacman import DYING, EATEN, FRIGHT, HEADING, PHASE, PILLS, MsPacmanMap, X
from lapa_ray.evaluation.event_lift import MIN_EVENTS, EventLifts
from lapa_ray.evaluation.events import events_of, player_moves, possible_steps
from tests.support.made_ram import made_ram


def steps_of(events: dict[str, np.ndarray], name: str) -> list[int]:
    return np.flatnonzero(events[name]).tolist()


def test_events_of_ms_pacman() -> None:
    ram = made_ram(12)
    ram[:, X["player"]] = [50, 54, 58, 58, 58, 54, 50, 46, 46, 46, 42, 200]
    ram[:, EATEN] = [0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]
    ram[:, PILLS] = [60] * 6 + [56] * 6  # at 5 a pill: it counts as eaten, too
    ram[:, FRIGHT] = [0] * 7 + [1 << 6] * 5
    ram[:, HEADING["player"]] = [1] * 5 + [3] * 7
    ram[8:10, PHASE] = [DYING.start, DYING.start + 1]
    events = events_of(MsPacmanMap().read(ram))
    assert steps_of(events, "dot eaten") == [1]
    assert steps_of(events, "pill eaten") == [5]
    assert steps_of(events, "ghost eaten") == [6]
    assert steps_of(events, "death") == [7]
    assert steps_of(events, "turn") == [4]
    assert steps_of(events, "wall stop") == [2]
    moved, known = player_moves(MsPacmanMap().read(ram))
    assert moved[:3, 0].tolist() == [4, 4, 0]
    assert np.flatnonzero(~known).tolist() == [7, 8, 9, 10]  # the death, and a jump of 158 px


def test_events_of_breakout() -> None:
    ram = np.zeros((6, 128), dtype=np.uint8)
    ram[:, :36] = 255
    ram[:, PADDLE_X] = [100, 96, 96, 104, 104, 104]
    ram[:, BALL_X], ram[:, BALL_Y] = 90, [100, 110, 120, 110, 100, 0]
    ram[4:, 18] = 0b11111100
    events = events_of(BreakoutMap().read(ram))
    assert steps_of(events, "paddle left") == [0]
    assert steps_of(events, "paddle right") == [2]
    assert steps_of(events, "bounce") == [2]
    assert steps_of(events, "brick") == [3]


@pytest.mark.parametrize(
    ("heights", "bounces"),
    [
        ([158, 171, 171, 158], [2]),  # it came back within the second step to where it was
        ([158, 171, 171, 171, 158, 145], [3]),
        ([158, 171, 171, 184], []),
        ([158, 158, 171], []),
        ([158, 171, 0, 171, 158], []),  # another ball
        ([158, 171, 171, 0, 158, 158, 145], []),
        ([158, 171, 171, 158, 158, 171], [2, 4]),
    ],
)
def test_a_ball_that_bounced_within_a_step_is_told_by_the_next_in_which_it_moves(
    heights: list[int], bounces: list[int]
) -> None:
    ram = np.zeros((len(heights), 128), dtype=np.uint8)
    ram[:, PADDLE_X], ram[:, BALL_X], ram[:, BALL_Y] = 100, 90, heights
    assert steps_of(events_of(BreakoutMap().read(ram)), "bounce") == bounces


ALL_100 = np.ones(100, np.bool_)


def grids(num_steps: int, generator: np.random.Generator) -> np.ndarray:
    return generator.integers(1, 8, size=(num_steps, 4))  # code 0 is left for the event


def test_the_code_of_an_event_is_found_with_its_lift() -> None:
    generator, lifts = np.random.default_rng(0), EventLifts(8)
    for _ in range(4):
        codes, event = grids(100, generator), np.arange(100) % 10 == 3
        codes[event, generator.integers(4)] = 0
        codes[7, 0] = 0  # once an episode without the event
        lifts.update(codes, {"it": event, "rare": np.arange(100) == 5}, {"it": ALL_100, "rare": ALL_100})
    found, rare = lifts.table(0)
    assert found.num_events == 40
    best = found.answers[0]
    assert (best.code, best.num_with_event, best.num_steps) == (0, 40, 44)
    assert best.lift == pytest.approx(400 / 44)
    assert found.chance_lift is not None
    assert found.chance_lift < best.lift
    assert rare.num_events == 4 < MIN_EVENTS
    assert rare.answers == ()


def test_codes_that_know_nothing_of_an_event_stay_at_what_chance_gives() -> None:
    generator, lifts = np.random.default_rng(1), EventLifts(8)
    for _ in range(5):
        lifts.update(grids(300, generator), {"it": generator.random(300) < 0.1}, {"it": np.ones(300, np.bool_)})
    (row,) = lifts.table(0)
    assert row.chance_lift is not None
    assert row.answers[0].lift <= 1.1 * row.chance_lift
    assert row.answers[0].lift == pytest.approx(1, abs=0.35)


def test_an_event_that_is_only_possible_in_play_is_held_against_steps_of_play() -> None:
    """A third of the steps stands still under codes of its own; in play the codes know nothing of the event."""
    bold = 0
    for seed in range(20):
        generator, lifts = np.random.default_rng(seed), EventLifts(70)
        for _ in range(6):
            play = np.arange(615) >= 206
            codes = np.where(play, generator.integers(60, size=615), generator.integers(60, 70, size=615))[:, None]
            event = play & (generator.random(615) < 0.1)
            lifts.update(codes, {"it": event}, {"it": play})
        (row,) = lifts.table(seed)
        assert row.num_steps == 6 * 409
        assert row.chance_lift is not None
        bold += row.answers[0].lift > row.chance_lift
    assert bold <= 4  # one in twenty is what the 95th percentile lets through


def test_steps_in_which_an_event_could_happen() -> None:
    ram = made_ram(5)
    ram[1:3, PHASE] = [DYING.start, DYING.start + 1]
    possible = possible_steps(MsPacmanMap().read(ram))
    assert set(possible) == set(events_of(MsPacmanMap().read(ram)))
    assert all(steps.tolist() == [True, False, False, True] for steps in possible.values())
    ram = np.zeros((4, 128), dtype=np.uint8)
    ram[:, PADDLE_X], ram[:, BALL_X] = 100, 90
    ram[2:, BALL_Y] = 100
    possible = possible_steps(BreakoutMap().read(ram))
    assert set(possible) == set(events_of(BreakoutMap().read(ram)))
    assert steps_of(possible, "paddle left") == [0, 1, 2]
    assert steps_of(possible, "bounce") == steps_of(possible, "brick") == [2]
