"""The reconstruction loss against the same by hand."""

import numpy as np
import pytest
import torch

from lapa_ray.models.reconstruction_loss import LossConfig, ReconstructionLoss
from lapa_ray.models.vqvae import Vqvae, VqvaeConfig, VqvaeOutput

CODES, NOTHING = torch.zeros(2, 35, dtype=torch.int64), torch.zeros(())
MODEL = Vqvae(VqvaeConfig(width=1, code_dim=1))


def given() -> tuple[VqvaeOutput, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    made, true = torch.rand(2, 2, 3, 6, 5, generator=generator) * 2 - 1
    return VqvaeOutput(made.atanh(), CODES, NOTHING), true, torch.rand(2, 6, 5, generator=generator) < 0.3


def parts(**fields) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """What the loss says; the differences [2, 3, 6, 5]; where pixels changed."""
    output, true, changed = given()
    told = ReconstructionLoss(LossConfig(**fields))(MODEL, output, true, true, changed)
    made = output.shown.tanh()
    return {name: float(part) for name, part in told.items()}, (made - true).numpy(), changed.numpy()


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


def test_pixels_of_rare_colours_weigh_more():
    colours, shares = torch.tensor([[-1.0, -1, -1], [1, -1, 1], [1, 1, 1]]), torch.tensor([0.75, 0.04, 0.21])
    model = Vqvae(VqvaeConfig(width=1, code_dim=1, output="palette", num_colours=4))
    model.set_colours(colours, shares)
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(3, (2, 6, 5), generator=generator)
    true, changed = colours[classes].permute(0, 3, 1, 2), torch.rand(2, 6, 5, generator=generator) < 0.3
    logits = torch.randn(2, 4, 6, 5, generator=generator)
    config = LossConfig(kind="cross_entropy", changed_pixel_weight=3, rare_colour_power=0.5)
    told = ReconstructionLoss(config)(model, VqvaeOutput(logits, CODES, NOTHING), true, true, changed)
    rare = shares.numpy() ** -0.5
    weights = (rare / (rare * shares.numpy()).sum())[classes] + 3 * changed.numpy()
    errors = -logits.log_softmax(dim=1).gather(1, classes[:, None])[:, 0].numpy()
    assert told["reconstruction_loss"].item() == pytest.approx((weights * errors).sum() / weights.sum(), rel=1e-5)
