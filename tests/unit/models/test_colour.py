"""Look-ups on the device equal those of NumPy, whatever is asked for."""

import numpy as np
import pytest
import torch

from lapa_ray.core.pictures import grey_levels, to_rgb
from lapa_ray.envs.palette import ntsc_palette
from lapa_ray.models.colour import PaletteRgb

PALETTE = ntsc_palette()
NONE = np.empty((0, 3), np.uint8)
SCREENS = np.random.default_rng(0).integers(0, 256, (2, 5, 4), dtype=np.uint8)


def test_the_default_is_rgb_from_minus_one_to_one():
    seen = PaletteRgb(PALETTE)(torch.from_numpy(SCREENS))
    expected = torch.from_numpy(to_rgb(SCREENS, PALETTE)).permute(0, 3, 1, 2) / 127.5 - 1
    torch.testing.assert_close(seen, expected)
    assert seen.shape == (2, 3, 5, 4)
    assert (seen.min() >= -1, seen.max() <= 1) == (True, True)


@pytest.mark.parametrize("has_palette", [True, False])
def test_grey_has_one_channel_of_the_levels_of_the_ale(has_palette):
    look_up = PaletteRgb(PALETTE if has_palette else NONE, "grey", lowest=0)
    screens = SCREENS if has_palette else to_rgb(SCREENS, PALETTE)
    seen = look_up(torch.from_numpy(screens))
    expected = torch.from_numpy(grey_levels(PALETTE)[SCREENS].astype(np.float32) / 255)
    torch.testing.assert_close(seen, expected[:, None])


@pytest.mark.parametrize("lowest", [-1, 0])
def test_rgb_screens_look_like_those_of_the_palette(lowest):
    by_palette = PaletteRgb(PALETTE, lowest=lowest)(torch.from_numpy(SCREENS))
    of_rgb = PaletteRgb(NONE, lowest=lowest)(torch.from_numpy(to_rgb(SCREENS, PALETTE)))
    torch.testing.assert_close(of_rgb, by_palette)
    assert of_rgb.min() == lowest or by_palette.min() > lowest
