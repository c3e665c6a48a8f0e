"""The reconstruction loss against the same by hand."""

import numpy as np
import pytest
import torch

from lapa_ray.models.reconstruction_loss import LossConfig, ReconstructionLoss
from lapa_ray.models.vqvae import VqvaeOutput

CODES, NOTHING = torch.zeros(2, 35, dtype=torch.int64), torch.zeros(())


def given() -> tuple[VqvaeOutput, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    made, true = torch.rand(2, 2, 3, 6, 5, generator=generator) * 2 - 1
    return VqvaeOutput(made, CODES, NOTHING), true, torch.rand(2, 6, 5, generator=generator) < 0.3


def parts(**fields) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """What the loss says; the differences [2, 3, 6, 5]; where pixels changed."""
    output, true, changed = given()
    told = ReconstructionLoss(LossConfig(**fields))(None, output, true, true, changed)
    return {name: float(part) for name, part in told.items()}, (output.reconstruction - true).numpy(), changed.numpy()


@pytest.mark.parametrize(("kind", "error"), [("mse", np.square), ("l1", np.abs)])
def test_the_plain_mean(kind, error):
    told, difference, _ = parts(kind=kind)
    assert told == {"reconstruction_loss": pytest.approx(error(difference).mean(), rel=1e-5)}


def test_changed_pixels_weigh_more():
    told, difference, changed = parts(changed_pixel_weight=3.0)
    weights = 1 + 3.0 * changed
    expected = (weights * np.square(difference).mean(axis=1)).sum() / weights.sum()
    assert told["reconstruction_loss"] == pytest.approx(expected, rel=1e-5)


def test_the_worst_pixel_of_each_picture():
    told, difference, _ = parts(worst_pixel_weight=0.5)
    worst = np.square(difference).mean(axis=1).reshape(2, -1).max(axis=1)
    assert told["worst_pixel_loss"] == pytest.approx(0.5 * worst.mean(), rel=1e-5)
