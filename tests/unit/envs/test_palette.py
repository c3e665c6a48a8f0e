import numpy as np

from lapa_ray.core.pictures import grey_levels
from lapa_ray.envs.palette import ntsc_palette, pal_palette


def test_the_palettes_begin_with_black_to_white():
    for palette, second in ((ntsc_palette(), 74), (pal_palette(), 43)):
        assert palette.shape == (256, 3)
        assert palette.dtype == np.uint8
        assert palette[0].tolist() == [0, 0, 0]
        assert palette[2].tolist() == [second] * 3
        assert palette[14].tolist() == [236] * 3


def test_odd_colours_are_the_even_ones_in_grey():
    for palette in (ntsc_palette(), pal_palette()):
        np.testing.assert_array_equal(palette[1::2], grey_levels(palette[::2])[:, None].repeat(3, axis=1))
        np.testing.assert_array_equal(grey_levels(palette)[1::2], grey_levels(palette)[::2])
