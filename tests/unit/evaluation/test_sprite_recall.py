"""Sprite recall on made pictures: a sprite that was moved by so many pixels is so far off."""

from __future__ import annotations

import numpy as np
import pytest

from lapa_ray.envs.looks import Sought
from lapa_ray.evaluation.sprite_recall import REACH_PX, SpriteRecall

FLOOR, YELLOW, RED, BROWN = 144, 42, 70, 18
TOP, LEFT = 60, 40


def picture(top: int = TOP, left: int = LEFT, height: int = 10, width: int = 8, colour: int = YELLOW) -> np.ndarray:
    screen = np.full((210, 160), FLOOR, dtype=np.uint8)
    screen[top : top + height, left : left + width] = colour
    return screen


EMPTY = picture(height=0)


def sought(num_states: int = 2, **changes) -> Sought:
    values = {
        "name": "player", "label": "Player", "width": 8, "height": 10, "colours": (YELLOW,), "least_pixels": 16,
        "left": np.full(num_states, LEFT, np.int16), "top": np.full(num_states, TOP, np.int16),
        "wanted": np.ones(num_states, bool),
    }  # fmt: skip
    return Sought(**(values | changes))


def counted(guess: np.ndarray, *, before: np.ndarray | None = None, true: np.ndarray | None = None, **changes):
    recall = SpriteRecall(("model",))
    true = picture() if true is None else true
    before = true if before is None else before
    recall.update(0, sought(**changes), np.array([1]), before[None], true[None], {"model": guess[None]})
    return recall


@pytest.mark.parametrize(("down", "across"), [(0, 0), (3, 0), (0, 3), (-1, 0), (3, 4), (0, -8)])
def test_a_sprite_moved_by_so_many_pixels_is_so_far_off(down, across):
    recall = counted(picture(TOP + down, LEFT + across))
    distance = float(np.hypot(down, across))
    assert recall.position_error("model").value == pytest.approx(distance)
    for px in (1, 2):
        assert recall.recall("model", px).value == (distance <= px)


def test_a_sprite_that_is_not_there_is_missed_and_has_no_position():
    recall = counted(EMPTY)
    assert recall.recall("model", 2).value == 0
    assert recall.position_error("model").value is None


@pytest.mark.parametrize(
    ("guess", "found"),
    [
        (picture(height=3), False),  # 24 of 80 pixels: its remains
        (picture(TOP + 3, height=4), True),
        (picture(TOP - 5, LEFT - 4, 20, 16), False),  # four times as many: a smear around the right place
        (picture(TOP - 5, LEFT, 20, 8), True),
        (picture(colour=RED), False),
        (picture(TOP + 10 + REACH_PX), False),  # out of the window
    ],
)
def test_found_is_what_has_about_as_many_pixels_of_its_colour(guess, found):
    assert counted(guess).recall("model", 2).value == found


def test_what_the_true_picture_does_not_show_or_nobody_asks_for_is_not_counted():
    for recall in (
        counted(picture(), true=EMPTY),
        counted(picture(), wanted=np.array([True, False])),
        counted(picture(), rows=(0, TOP)),
        counted(picture(), true=picture(height=1)),  # 8 pixels
    ):
        assert recall.recall("model", 2).num_samples == 0
    assert counted(picture(), true=EMPTY).shown.estimate().value == 0
    assert counted(picture()).shown.estimate().value == 1


def test_moved_ones_are_those_farther_than_two_pixels_from_the_picture_before():
    for across, counts in ((2, 0), (3, 1)):
        recall = counted(picture(), before=picture(left=LEFT + across))
        assert recall.moved_recall("model").num_samples == counts
    assert recall.moved_recall("model").value == 1
    copied = counted(picture(left=LEFT + 3), before=picture(left=LEFT + 3))
    assert copied.moved_recall("model").value == 0


def test_a_fruits_colour_is_what_is_rare_in_the_true_box():
    true = picture(colour=BROWN)
    true[TOP : TOP + 5, LEFT : LEFT + 8] = RED  # as many of a ghost's colour
    true[TOP, LEFT : LEFT + 8] = RED
    changes = {"true": true, "colours": (), "others": (RED,)}
    assert counted(true, **changes).recall("model", 1).value == 1
    assert counted(picture(colour=RED), **changes).recall("model", 2).value == 0
    moved = counted(np.roll(true, 3, axis=1), **changes)
    assert moved.position_error("model").value == pytest.approx(3)


def test_a_sprite_at_the_edge_is_looked_for_inside_the_picture_alone():
    true = picture(left=-4 % 160, width=4)  # at the right edge
    left = np.full(2, 156, np.int16)
    recall = counted(true, true=true, left=left)
    assert recall.position_error("model").value == 0
    wrapped = true.copy()
    wrapped[:, 156:] = FLOOR
    wrapped[TOP : TOP + 10, :4] = YELLOW
    assert counted(wrapped, true=true, left=left).recall("model", 2).value == 0


def test_each_picture_is_counted_for_itself():
    recall = SpriteRecall(("model",))
    true = np.stack([picture(), picture(TOP + 4)])
    guess = np.stack([picture(), picture()])
    where = sought(3, top=np.array([0, TOP, TOP + 4], np.int16))
    recall.update(7, where, np.array([1, 2]), true, true, {"model": guess})
    assert recall.recall("model", 2).value == 0.5
    assert recall.position_error("model").value == pytest.approx(2)


def test_what_is_not_asked_for_does_not_shift_the_pictures_that_are():
    recall = SpriteRecall(("model",))
    true = np.stack([EMPTY, picture(TOP, LEFT + 20)])
    guess = np.stack([EMPTY, picture(TOP, LEFT + 21)])
    where = sought(2, left=np.array([LEFT, LEFT + 20], np.int16), wanted=np.array([False, True]))
    recall.update(0, where, np.array([0, 1]), true[::-1], true, {"model": guess})
    assert recall.position_error("model").value == pytest.approx(1)
    assert recall.position_error("model").num_samples == 1
