from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lapa_ray.core.pictures import Compositor, grey_levels, luminance_ranks, shrink, to_rgb

PALETTE = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
TIES = np.repeat(np.arange(0, 256, 4, dtype=np.uint8), 4)[:, None].repeat(3, axis=1)
SIZES = st.sampled_from([(3, 4), (2, 4), (1, 1), (4, 6)])  # eight pixels come out even in the second and the fourth
SCREENS = st.tuples(st.integers(1, 6), SIZES).flatmap(lambda drawn: arrays(np.uint8, (drawn[0], *drawn[1])))
WEIGHTS = (0.2989, 0.5870, 0.1140)


def luminance(palette, index) -> float:
    return sum(weight * int(channel) for weight, channel in zip(WEIGHTS, palette[index], strict=True))


def brightest(screens, palette):
    """Pixel by pixel, the index of greatest luminance; of equals the greatest index."""
    picture = np.empty(screens.shape[1:], np.uint8)
    for at in np.ndindex(picture.shape):
        picture[at] = max((int(screen[at]) for screen in screens), key=lambda i: (round(luminance(palette, i), 6), i))
    return picture


@settings(max_examples=50, deadline=None)
@given(screens=SCREENS, ties=st.booleans())
@pytest.mark.parametrize(("composite", "count"), [("max4", 4), ("max2", 2), ("last", 1)])
def test_a_composite_is_the_brightest_of_the_last_frames(composite, count, screens, ties):
    palette = TIES if ties else PALETTE
    before = screens.copy()
    picture = Compositor(palette, composite)(screens)
    np.testing.assert_array_equal(picture, brightest(screens[-count:], palette))
    np.testing.assert_array_equal(screens, before)
    assert picture.dtype == np.uint8


def test_a_composite_is_no_view_of_the_frames():
    screens = np.zeros((1, 2, 2), np.uint8)
    Compositor(PALETTE, "last")(screens)[:] = 7
    assert not screens.any()


def test_the_greatest_index_does_not_win():
    palette = np.zeros((256, 3), np.uint8)
    palette[10], palette[144] = 255, 20  # a bright sprite on a dim floor of greater index
    screens = np.array([[[10]], [[144]]], np.uint8)
    assert Compositor(palette)(screens)[0, 0] == 10


def test_ranks_are_a_permutation_by_luminance():
    ranks = luminance_ranks(PALETTE)
    assert sorted(ranks) == list(range(256))
    ordered = np.argsort(ranks)
    assert all(luminance(PALETTE, a) <= luminance(PALETTE, b) for a, b in pairwise(ordered))


def test_grey_levels_round_to_the_nearest():
    palette = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [1, 1, 0]], np.uint8)
    np.testing.assert_array_equal(grey_levels(palette), [0, 255, 76, 150, 29, 1])


def test_rgb_is_a_look_up():
    screens = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    rgb = to_rgb(screens, PALETTE)
    assert rgb.shape == (2, 3, 4, 3)
    np.testing.assert_array_equal(rgb[1, 2, 3], PALETTE[23])


def test_an_observation_is_made_of_area_averages():
    grey = np.kron(np.random.default_rng(1).integers(0, 256, (84, 84)), np.ones((5, 2))).astype(np.uint8)
    np.testing.assert_array_equal(shrink(grey), grey[::5, ::2])
    assert shrink(np.full((210, 160), 99, np.uint8)).tolist() == np.full((84, 84), 99).tolist()
