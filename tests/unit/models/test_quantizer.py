"""The quantiser against the equations of the VQ-VAE paper, computed apart."""

import pytest
import torch
from pydantic import ValidationError

from lapa_ray.models.quantizer import Quantizer, QuantizerConfig


def latents() -> torch.Tensor:
    return torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))


def test_codes_are_the_nearest():
    quantizer = Quantizer(4, QuantizerConfig(codebook_size=16))
    _, codes, _ = quantizer(latents())
    assert torch.equal(codes, torch.cdist(latents(), quantizer.vq.codebook[None]).argmin(dim=-1))


def test_the_loss_is_the_papers():
    """‖sg[z] − e‖² + 0.25 ‖z − sg[e]‖², both means, so that their values differ by the weight alone."""
    quantizer = Quantizer(4, QuantizerConfig(codebook_size=16))
    z = latents().requires_grad_()
    quantised, codes, loss = quantizer(z)
    e = quantizer.vq.codebook[codes]
    assert torch.allclose(quantised, e, atol=1e-6)
    assert torch.allclose(loss, 1.25 * (z - e).square().mean())
    loss.backward()
    assert torch.allclose(z.grad, 0.25 * 2 * (z - e).detach() / z.numel(), atol=1e-7)
    expected = torch.zeros_like(quantizer.vq.codebook)
    expected.index_add_(0, codes.flatten(), (2 * (e - z) / z.numel()).detach().flatten(0, 1))
    (codebook,) = quantizer.vq.parameters()
    assert torch.allclose(codebook.grad[0], expected, atol=1e-7)


@pytest.mark.parametrize("kind", ["learnable", "ema"])
def test_the_gradient_passes_straight_through(kind):
    quantizer = Quantizer(4, QuantizerConfig(codebook_size=16, kind=kind))
    z = latents().requires_grad_()
    weights = torch.randn(3, 5, 4)
    (quantizer(z)[0] * weights).sum().backward()
    assert torch.allclose(z.grad, weights)


@pytest.mark.parametrize("kind", ["learnable", "ema"])
def test_the_loss_is_the_same_in_both_modes(kind):
    config = QuantizerConfig(codebook_size=16, kind=kind, codebook_dim=2, ema_decay=0.999999)
    quantizer = Quantizer(4, config)
    training = quantizer(latents())[2]
    assert training > 0
    assert torch.allclose(training, quantizer.eval()(latents())[2], rtol=1e-3)


def test_averages_follow_the_latents():
    quantizer = Quantizer(4, QuantizerConfig(codebook_size=2, kind="ema", ema_decay=0.5, kmeans_init=True))
    ends = torch.tensor([[[1.0, 0, 0, 0], [0, 1.0, 0, 0]]]).repeat(1, 8, 1)
    for _ in range(20):
        quantizer(ends)
    found = quantizer.vq.codebook[quantizer.vq.codebook[:, 0].argsort(descending=True)]
    assert torch.allclose(found, ends[0, :2], atol=1e-3)


@pytest.mark.parametrize("kind", ["learnable", "ema"])
def test_dead_codes_are_revived(kind):
    """Latents far from a codebook at the origin use one code; with revival the others come over."""
    torch.manual_seed(0)
    far = latents() + 10

    def used(revive_below: float) -> int:
        quantizer = Quantizer(4, QuantizerConfig(codebook_size=8, kind=kind, revive_below=revive_below))
        for _ in range(5):
            quantizer(far)
        return len(quantizer.eval()(far)[1].unique())

    assert used(0.0) <= 2
    assert used(1.0) >= 5


def test_few_latents_start_by_kmeans_without_a_word(capfd):
    Quantizer(4, QuantizerConfig(codebook_size=64, kind="ema", kmeans_init=True))(latents())
    assert capfd.readouterr() == ("", "")


def test_cosine_needs_averages():
    with pytest.raises(ValidationError, match="cosine: needs kind ema"):
        QuantizerConfig(cosine=True)
