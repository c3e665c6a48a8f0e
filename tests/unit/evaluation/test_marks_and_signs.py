"""Dots, bricks, digits and nearest colours on made pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lapa_ray.envs.looks import Cells, Marks
from lapa_ray.evaluation.marks_f1 import MarksF1
from lapa_ray.evaluation.palette_classes import nearest_indices
from lapa_ray.evaluation.sign_reading import SignReading, crops, signs_in

FLOOR, DOT = 144, 74
ROWS, COLUMNS = np.array([10, 10, 10, 30, 30]), np.array([10, 20, 30, 10, 20])


def dots(*shown: int, colour: int = DOT) -> np.ndarray:
    screen = np.full((40, 40), FLOOR, dtype=np.uint8)
    for number in shown:
        screen[ROWS[number] : ROWS[number] + 2, COLUMNS[number] : COLUMNS[number] + 4] = colour
    return screen


def marks(told=(0, 1, 2, 3), judged=(0, 1, 2, 3, 4), group=(0, 0, 0, 0, 0)) -> Marks:
    bits = [np.tile(np.isin(np.arange(5), chosen), (2, 1)) for chosen in (told, judged)]
    return Marks("dots", "Dots", ROWS, COLUMNS, 2, 4, np.array(group), *bits)


def f1_of(guess: np.ndarray, before: np.ndarray, after: np.ndarray, place: Marks | None = None) -> MarksF1:
    meter = MarksF1(("model",))
    meter.update(0, place or marks(), np.array([1]), before[None], after[None], {"model": guess[None]})
    return meter


def test_f1_counts_hits_misses_and_false_alarms():
    meter = f1_of(dots(0, 1, 4), dots(0, 1, 2, 3), dots(0, 1, 2, 3))
    assert meter.there("model").value == pytest.approx(2 * 2 / (3 + 4))
    assert f1_of(dots(0, 1, 2, 3), dots(0, 1, 2, 3), dots(0, 1, 2, 3)).there("model").value == 1


def test_gone_are_those_that_the_picture_before_shows_and_this_one_does_not():
    before, after = dots(0, 1, 2, 3), dots(0, 1, 2)
    assert f1_of(after, before, after).gone("model").value == 1
    assert f1_of(before, before, after).gone("model").value == 0
    assert f1_of(dots(0, 2), before, after).gone("model").value == pytest.approx(2 * 1 / (2 + 1))
    assert f1_of(before, before, before).gone("model").value is None


def test_half_a_dot_is_shown_and_less_is_not():
    after = dots(0, 1, 2, 3)
    half, less = after.copy(), after.copy()
    half[10, 10:14] = FLOOR
    less[10, 10:14] = less[11, 10] = FLOOR
    assert f1_of(half, after, after).there("model").value == 1
    assert f1_of(less, after, after).there("model").value == pytest.approx(2 * 3 / (3 + 4))


def test_places_that_are_not_judged_do_not_count():
    meter = f1_of(dots(0, 1, 2, 3, 4), dots(0, 1, 2, 3), dots(0, 1, 2, 3), marks(judged=(0, 1, 2, 3)))
    assert meter.there("model").value == 1


def test_each_group_has_a_colour_of_its_own():
    after = np.where(np.arange(40)[:, None] < 20, dots(0, 1, 2), dots(3, 4, colour=22))
    rows = marks(told=(0, 1, 2, 3, 4), group=(0, 0, 0, 1, 1))
    assert f1_of(after, after, after, rows).there("model").value == 1
    other = np.where(np.arange(40)[:, None] < 20, dots(0, 1, 2), dots(3, 4))  # below in the upper ones' colour
    assert f1_of(other, after, after, rows).there("model").value == pytest.approx(2 * 3 / (3 + 5))


CELLS = Cells("score", "Score", top=2, lefts=(0, 6), height=5, width=4)
SIGNS = {0: ((1, 1), (1, 3), (3, 1), (3, 3)), 1: ((0, 2), (1, 2), (2, 2), (3, 2), (4, 2)), None: ()}


def digits(left: int | None, right: int | None) -> np.ndarray:
    screen = np.zeros((10, 12), dtype=np.uint8)
    for start, sign in ((0, left), (6, right)):
        for row, column in SIGNS[sign]:
            screen[2 + row, start + column] = 40
    return screen


def test_signs_are_what_stands_still_and_overlays_are_none():
    overlay = np.maximum(digits(None, 0), digits(None, 1))
    film = np.stack([digits(None, 0), digits(None, 0), overlay, digits(None, 1), digits(None, 1)])
    found = signs_in(CELLS, film)
    expected = {crops(CELLS, digits(a, b)[None])[0, 1].tobytes() for a, b in ((0, 0), (1, 1), (None, None))}
    assert {sign.tobytes() for sign in found} == expected


def reading(guess: np.ndarray, before: np.ndarray, after: np.ndarray) -> SignReading:
    signs = signs_in(CELLS, np.stack([digits(0, 1)] * 2 + [digits(None, 0)] * 2))
    meter = SignReading(("model",))
    meter.update(0, CELLS, signs, before[None], after[None], {"model": guess[None]})
    return meter


def test_a_cell_reads_as_the_sign_that_it_differs_least_from():
    before, after = digits(0, 0), digits(0, 1)
    noisy = after.copy()
    noisy[3, 7] = 40
    for guess, right, changed in ((after, 1, 1), (noisy, 1, 1), (before, 0.5, 0), (digits(1, 1), 0.5, 1)):
        meter = reading(guess, before, after)
        assert meter.right("model").value == right
        assert meter.right_changed("model").value == changed
        assert (meter.right("model").num_samples, meter.right_changed("model").num_samples) == (2, 1)


def test_a_true_cell_that_is_no_sign_is_not_asked_about():
    after = np.maximum(digits(0, 0), digits(0, 1))
    assert reading(after, digits(0, 0), after).right("model").num_samples == 1


PALETTE = np.zeros((256, 3), dtype=np.uint8)
PALETTE[[1, 2, 3]] = (100, 0, 0), (200, 0, 0), (130, 0, 0)


def test_a_pixel_is_taken_for_the_nearest_colour_of_the_true_pictures_in_its_band():
    true = np.array([[[0, 1], [1, 1]], [[0, 1], [2, 3]]], dtype=np.uint8)
    rgb = torch.zeros(2, 3, 2, 2, dtype=torch.uint8)
    rgb[:, 0] = torch.tensor([[140, 40], [140, 170]])
    found = nearest_indices(rgb, (true,), PALETTE, ((0, 1), (1, 2)))
    np.testing.assert_array_equal(found, [[[1, 0], [1, 1]], [[1, 0], [3, 2]]])
    whole = nearest_indices(rgb, (true,), PALETTE, ((0, 2),))
    np.testing.assert_array_equal(whole, [[[1, 0], [1, 1]], [[3, 0], [3, 2]]])


def test_the_nearest_colour_is_that_of_plain_distances():
    generator = np.random.default_rng(0)
    palette = generator.integers(0, 256, (256, 3), dtype=np.uint8)
    true = generator.integers(0, 40, (3, 8, 9), dtype=np.uint8)
    rgb = generator.integers(0, 256, (3, 3, 8, 9), dtype=np.uint8)
    found = nearest_indices(torch.from_numpy(rgb), (true,), palette, ((0, 8),))
    for item in range(3):
        seen = np.unique(true[item])
        apart = ((palette[seen].astype(int)[:, :, None, None] - rgb[item].astype(int)) ** 2).sum(axis=1)
        np.testing.assert_array_equal(found[item], seen[apart.argmin(axis=0)])
