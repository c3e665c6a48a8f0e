"""The observer, which remakes only what changed, against all of it made anew."""

import cv2
import numpy as np
import pytest

from lapa_ray.core.pictures import grey_levels
from lapa_ray.envs.observer import Observer
from lapa_ray.envs.palette import ntsc_palette

PALETTE = ntsc_palette()
WIDTH = 160


def made_anew(screens: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The definition: look up the last two screens, take the maximum, shrink the whole."""
    colours = grey_levels(PALETTE) if len(shape) == 2 else PALETTE
    return cv2.resize(colours[screens[-2:]].max(axis=0), shape[:2], interpolation=cv2.INTER_AREA)


def changed(screens: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The next screens: a few blocks drawn over, so that some rows change and others do not; at times none."""
    after = np.repeat(screens[-1:], generator.integers(1, 5), axis=0)
    for _ in range(generator.integers(0, 4)):
        top, left = generator.integers(0, after.shape[1] - 4), generator.integers(0, WIDTH - 8)
        after[generator.integers(len(after)) :, top : top + 4, left : left + 8] = generator.integers(0, 256)
    return after


@pytest.mark.parametrize("height", [210, 250, 220])
@pytest.mark.parametrize("shape", [(84, 84), (96, 96), (42, 42), (84, 84, 3), (160, 160, 3)])
def test_observations_are_those_made_anew_of_whole_screens(height, shape):
    generator = np.random.default_rng(0)
    observer = Observer(PALETTE, height, WIDTH, shape)
    screens = generator.integers(0, 256, (2, height, WIDTH), dtype=np.uint8)
    given = []
    for _ in range(60):
        given.append((observer(screens), made_anew(screens, shape)))
        screens = changed(screens, generator)
    for ours, expected in given:  # only now: no later observation may have written over an earlier one
        np.testing.assert_array_equal(ours, expected)
    assert len({ours.tobytes() for ours, _ in given}) > 30


def test_every_row_counts_in_its_band():
    """Rows at the edges of bands, one at a time."""
    observer = Observer(PALETTE, 210, WIDTH, (84, 84))
    screens = np.random.default_rng(1).integers(0, 256, (2, 210, WIDTH), dtype=np.uint8)
    for row in range(210):
        screens = screens.copy()
        screens[row % 2, row, row % WIDTH] ^= 254
        np.testing.assert_array_equal(observer(screens), made_anew(screens, (84, 84)))


def test_the_order_of_the_last_two_screens_does_not_matter():
    screens = np.random.default_rng(2).integers(0, 256, (2, 210, WIDTH), dtype=np.uint8)
    one, other = (Observer(PALETTE, 210, WIDTH, (84, 84)) for _ in range(2))
    np.testing.assert_array_equal(one(screens), other(screens[::-1].copy()))
