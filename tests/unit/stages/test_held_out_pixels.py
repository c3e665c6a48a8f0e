"""Held-out pixels: which pairs' SSIM counts, however they come in batches."""

import pytest
import torch

from lapa_ray.evaluation.pixels import PixelMetrics
from lapa_ray.stages import held_out_pixels
from lapa_ray.stages.held_out_pixels import HeldOutPixels


@pytest.mark.parametrize("batch", [1, 3, 4, 10])
def test_ssim_is_of_evenly_spaced_pairs_and_psnr_of_all(batch, monkeypatch):
    monkeypatch.setattr(held_out_pixels, "NUM_SSIM_PAIRS", 4)
    generator = torch.Generator().manual_seed(0)
    predicted, true = torch.randint(256, (2, 10, 3, 16, 16), generator=generator, dtype=torch.uint8)
    changed = torch.rand(10, 16, 16, generator=generator) < 0.2
    meter = HeldOutPixels(10)
    for start in range(0, 10, batch):
        part = slice(start, start + batch)
        meter.update(predicted[part], true[part], changed[part])
    every, some = PixelMetrics(), PixelMetrics()
    every.update(predicted, true, changed)
    some.update(predicted[::3], true[::3], changed[::3], with_ssim=True)
    assert meter.figures() == {
        "psnr_db": every.psnr().value, "changed_psnr_db": every.changed_psnr().value,
        "ssim": pytest.approx(some.ssim().value),
    }  # fmt: skip


def test_what_is_not_there_is_not_a_number():
    figures = HeldOutPixels(3).figures()
    assert all(value != value for value in figures.values())
