"""Sheets show what the model was shown: its colours, and its own reconstruction beside them."""

import numpy as np
import pytest
import torch

from lapa_ray.core.pictures import grey_levels
from lapa_ray.evaluation.images import error_heat
from lapa_ray.evaluation.pixels import to_8bit
from lapa_ray.models.colour import PaletteRgb
from lapa_ray.models.quantizer import QuantizerConfig
from lapa_ray.models.vqvae import Vqvae, VqvaeConfig
from lapa_ray.stages.sample_sheet import SampleSheet
from tests.support.made_ram import made_ram
from tests.support.pictures import HEIGHT, WIDTH, wandering_square
from tests.support.recordings import write_play

MOVED = 9
"""The one pair of the episode in which anything moves."""


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    """An episode that stands still for nine pairs, and then moves; coloured."""
    square = wandering_square(2, seed=1)
    screens = np.concatenate([np.repeat(square[:1], 10, axis=0), square[1:]])
    palette = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
    return write_play(tmp_path_factory.mktemp("sheet") / "frames", [(made_ram(11), screens)], palette=palette)


def cells(sheet: np.ndarray) -> list[list[np.ndarray]]:
    rows, columns = (sheet.shape[0] + 4) // (HEIGHT + 4), (sheet.shape[1] + 4) // (WIDTH + 4)
    return [
        [sheet[y * (HEIGHT + 4) :, x * (WIDTH + 4) :][:HEIGHT, :WIDTH] for x in range(columns)] for y in range(rows)
    ]


@pytest.mark.parametrize("colour", ["rgb", "grey"])
def test_a_row_holds_both_frames_and_the_reconstruction_in_the_colours_of_the_model(play, colour):
    torch.manual_seed(0)
    config = VqvaeConfig(width=2, code_dim=4, colour=colour, quantizer=QuantizerConfig(codebook_size=8))
    model, palette = Vqvae(config).eval(), PaletteRgb(play.info.palette, colour)
    rows = cells(SampleSheet(play, [0], "last").draw(model, palette))
    table = play.info.palette
    if colour == "grey":
        table = np.repeat(grey_levels(table)[:, None], 3, axis=1)
    pictures = play.composites(0, "last")
    for (before, after, rebuilt, error), step in zip([rows[0], rows[-1]], (0, MOVED), strict=True):
        np.testing.assert_array_equal(before, table[pictures[step]])
        np.testing.assert_array_equal(after, table[pictures[step + 1]])
        seen = palette(torch.from_numpy(pictures[[step, step + 1]])).expand(-1, 3, -1, -1)
        with torch.inference_mode():
            expected = to_8bit(model.picture(model(seen[:1], seen[1:])))[0].permute(1, 2, 0).numpy()
        # What is encoded and then decoded may be rounded otherwise.
        assert np.abs(rebuilt.astype(int) - expected.astype(int)).max() <= 1
        np.testing.assert_array_equal(error, error_heat(rebuilt, after))


def test_the_rows_of_another_model_show_the_same_frames(play):
    sheet, palette, drawn = SampleSheet(play, [0], "last"), PaletteRgb(play.info.palette), []
    for seed in range(2):
        torch.manual_seed(seed)
        drawn.append(cells(sheet.draw(Vqvae(VqvaeConfig(width=2, code_dim=4)).eval(), palette)))
    for one, other in zip(*drawn, strict=True):
        np.testing.assert_array_equal(one[:2], other[:2])
        assert (one[2] != other[2]).any()
