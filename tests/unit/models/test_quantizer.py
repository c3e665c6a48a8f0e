"""The quantiser against the equations of the VQ-VAE paper, computed apart."""

from math import log

import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import normalize

from lapa_ray.models.quantizer import Quantizer, QuantizerConfig, code_entropy
from lapa_ray.models.vqvae import VqvaeConfig


def latents() -> torch.Tensor:
    return torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))


def test_codes_are_the_nearest():
    quantizer = Quantizer(4, QuantizerConfig(codebook_size=16))
    _, codes, _ = quantizer(latents())
    assert torch.equal(codes, torch.cdist(latents(), quantizer.vq.codebook[None]).argmin(dim=-1))


@pytest.mark.parametrize("commitment", [0.0, 0.25, 1.0, 3.0])
def test_the_loss_is_the_papers(commitment):
    """‖sg[z] − e‖² + β ‖z − sg[e]‖², both means, so that their values differ by the weight alone."""
    quantizer = Quantizer(4, QuantizerConfig(codebook_size=16, commitment=commitment))
    z = latents().requires_grad_()
    quantised, codes, loss = quantizer(z)
    e = quantizer.vq.codebook[codes]
    assert torch.allclose(quantised, e, atol=1e-6)
    assert torch.allclose(loss, (1 + commitment) * (z - e).square().mean())
    loss.backward()
    assert torch.allclose(z.grad, commitment * 2 * (z - e).detach() / z.numel(), atol=1e-7)
    expected = torch.zeros_like(quantizer.vq.codebook)
    expected.index_add_(0, codes.flatten(), (2 * (e - z) / z.numel()).detach().flatten(0, 1))
    (codebook,) = quantizer.vq.parameters()
    assert torch.allclose(codebook.grad[0], expected, atol=1e-7)


@pytest.mark.parametrize("commitment", [0.0, 0.25, 3.0])
def test_averaged_codes_have_the_commitment_alone(commitment):
    quantizer = Quantizer(4, QuantizerConfig(codebook_size=16, kind="ema", commitment=commitment))
    z = latents().requires_grad_()
    quantised, _, loss = quantizer(z)
    assert torch.allclose(loss, commitment * (z - quantised).detach().square().mean())
    loss.backward()
    assert torch.allclose(z.grad, commitment * 2 * (z - quantised).detach() / z.numel(), atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["learnable", "ema"])
def test_codes_and_their_averages_are_not_rounded_in_half_precision(kind, dtype):
    told = []
    for is_half in (False, True):
        torch.manual_seed(0)
        quantizer = Quantizer(4, QuantizerConfig(codebook_size=8, kind=kind))
        with torch.autocast("cpu", dtype, enabled=is_half):
            told.append((*quantizer(latents().requires_grad_()), quantizer.vq.codebook))
    assert told[1][0].dtype == torch.float32
    torch.testing.assert_close(*told, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["learnable", "ema"])
def test_the_gradient_passes_straight_through(kind):
    quantizer = Quantizer(4, QuantizerConfig(codebook_size=16, kind=kind))
    z = latents().requires_grad_()
    weights = torch.randn(3, 5, 4)
    (quantizer(z)[0] * weights).sum().backward()
    assert torch.allclose(z.grad, weights)


ROTATED = {
    "learnable": {"kind": "learnable"},
    "ema": {"kind": "ema"},
    "cosine": {"kind": "ema", "cosine": True},
    "simvq": {"kind": "simvq"},
}


@pytest.mark.parametrize("fields", ROTATED.values(), ids=ROTATED)
def test_rotated_gradients_turn_with_the_code(fields):
    """Fifty et al. 2024, section 4.1: what reaches the latent is that of the code times |q|/|e|, turned back by the
    rotation of the latent e onto its code q.
    """
    torch.manual_seed(0)
    quantizer = Quantizer(4, QuantizerConfig(codebook_size=16, rotation_trick=True, **fields))
    z, given = latents().requires_grad_(), torch.randn(3, 5, 4)
    e = normalize(z.detach(), dim=-1) if quantizer.config.cosine else z.detach()
    vectors = quantizer.look_up(torch.arange(16)[None])[0].detach().clone()  # before averages move
    quantised, codes, _ = quantizer(z)
    (gradient,) = torch.autograd.grad((quantised * given).sum(), z)
    q = vectors[codes]
    turned = [turned_back(*each) for each in zip(*(of.flatten(0, 1) for of in (given, e, q)), strict=True)]
    expected, straight = torch.stack(turned).view_as(z), given
    if quantizer.config.cosine:  # on the sphere nothing of it points outwards
        expected, straight = (tangent(of, z.detach()) for of in (expected, straight))
    assert torch.allclose(gradient, expected, atol=1e-5)
    assert (gradient - straight).norm(dim=-1).min() > 1e-3, "of no latent it is the straight-through one"


def turned_back(gradient: torch.Tensor, e: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Rᵀ g |q|/|e|, by Rodrigues' formula for the rotation in the plane of e and q (the library has reflections)."""
    a, b = e / e.norm(), q / q.norm()
    turn = torch.outer(b, a) - torch.outer(a, b)
    rotation = torch.eye(len(e)) + turn + turn @ turn / (1 + a @ b)
    assert torch.allclose(rotation @ a, b, atol=1e-5)
    return q.norm() / e.norm() * rotation.T @ gradient


def tangent(gradient: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """That of z of one of z/|z|."""
    outward = normalize(z, dim=-1)
    return (gradient - (gradient * outward).sum(dim=-1, keepdim=True) * outward) / z.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("fields", [{"kind": "learnable"}, {"kind": "ema", "ema_decay": 0.999999}])
def test_the_loss_is_the_same_in_both_modes(fields):
    quantizer = Quantizer(4, QuantizerConfig(codebook_size=16, codebook_dim=2, **fields))
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


@pytest.mark.parametrize("fields", [{"kind": "learnable"}, {"kind": "ema"}, {"kind": "ema", "cosine": True}])
def test_diversity_asks_how_evenly_all_latents_use_the_codes(fields):
    """Not those of each place apart: eight codes used alike, each bound to a place of its own, are as diverse as can
    be. One code alone costs log 8 times the weight; nothing of it in eval mode.
    """
    quantizer = Quantizer(8, QuantizerConfig(codebook_size=8, diversity=0.5, **fields))
    codebook = quantizer.vq._codebook
    for of in (codebook.embed, codebook.embed_avg):  # latents lie on their codes: the loss has no other part
        of.data.copy_(torch.eye(8))
    bound, alone = torch.eye(8).repeat(6, 1, 1), torch.eye(8)[2].repeat(6, 8, 1)
    assert quantizer(bound)[2].item() == pytest.approx(0, abs=1e-4)
    assert quantizer(alone)[2].item() == pytest.approx(0.5 * log(8), abs=1e-4)
    quantizer.eval()
    assert [quantizer(given)[2].item() for given in (bound, alone)] == pytest.approx([0, 0], abs=1e-4)


def fsq(diversity: float, levels: tuple[int, ...] = (8, 3)) -> Quantizer:
    torch.manual_seed(0)
    return Quantizer(4, QuantizerConfig(kind="fsq", codebook_size=24, fsq_levels=levels, diversity=diversity))


def test_the_entropy_of_rounded_codes_is_that_of_their_counts_where_latents_lie_on_them():
    """Latents on codes have all their probability there, but for neighbours."""
    quantizer = fsq(1.0)
    quantizer.vq.project_in = torch.nn.Identity()
    on_codes = [code_latents(quantizer.vq, [code] * count) for code, count in ((0, 1), (9, 2), (23, 5))]
    latents = torch.cat(on_codes)[None]
    assert quantizer.vq.codes_to_indices(quantizer.vq.quantize(latents)).tolist() == [[0, 9, 9, *[23] * 5]]
    of_counts = torch.special.entr(torch.tensor([1, 2, 5]) / 8).sum()
    assert of_counts <= code_entropy(quantizer.vq, latents) < of_counts + 0.4 < torch.tensor(24).log() - 1


def code_latents(vq, codes: list[int]) -> torch.Tensor:
    """Latents that the library's own bound takes to codes, by looking through many."""
    grid = torch.cartesian_prod(*[torch.linspace(-3, 3, 601)] * 2)
    rounded = vq.codes_to_indices(vq.quantize(grid[None]))[0]
    return torch.stack([grid[rounded == code].mean(dim=0) for code in codes])


def test_diversity_spreads_the_codes_of_fsq():
    """Latents of many kinds that all begin close together: the entropy term alone takes them apart."""
    used = {}
    for diversity in (0.0, 1.0):
        quantizer = fsq(diversity)
        given = 0.05 * torch.randn(8, 40, 4)
        optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.05)
        for _ in range(200):
            quantised, codes, loss = quantizer(given)
            optimizer.zero_grad()
            (loss + 0 * quantised.sum()).backward()
            optimizer.step()
        used[diversity] = len(codes.unique())
    assert used[0.0] <= 4
    assert used[1.0] >= 20
    assert quantizer.eval()(given)[2] == 0, "of a validation it is no part"


def test_standardised_latents_reach_all_steps_of_fsq_wherever_they_lie():
    """Their scale and place, by which fsq would use one code of all, have no say; the steps left and right of the
    middle are used alike.
    """
    torch.manual_seed(0)
    quantizer = Quantizer(2, QuantizerConfig(standardise=True, kind="fsq", codebook_size=32, fsq_levels=(8, 4)))
    quantizer.project_in = torch.nn.Identity()
    given = torch.randn(40, 500, 2)
    codes = quantizer(given)[1]
    assert torch.equal(quantizer(100 * given + 7)[1], codes)
    steps = quantizer.vq.indices_to_level_indices(codes.flatten())
    for dimension, levels in enumerate((8, 4)):
        shares = torch.bincount(steps[:, dimension], minlength=levels) / len(steps)
        torch.testing.assert_close(shares, shares.flip(0), atol=0.02, rtol=0)
        assert shares.min() > 0.35 / levels, "the outermost have half the width"


def test_standardised_latents_in_eval_mode_go_by_what_training_saw():
    torch.manual_seed(0)
    quantizer = Quantizer(4, QuantizerConfig(standardise=True, kind="fsq", codebook_size=64, fsq_levels=(8, 8)))
    for _ in range(100):
        quantised, codes, _ = quantizer(5 + torch.randn(8, 200, 4))
    quantizer.eval()
    assert len(quantizer(5 + torch.randn(8, 200, 4))[1].unique()) >= 60
    one = 5 + torch.randn(1, 1, 4)
    quantised, codes, _ = quantizer(one)
    assert torch.allclose(quantizer.look_up(codes), quantised, atol=1e-6)


@pytest.mark.parametrize(("levels", "size"), [((8, 8, 4), 256), ((8, 8, 8, 8), 4096)])
def test_codes_that_no_latent_is_near_leave_the_gradient_finite(levels, size):
    config = QuantizerConfig(kind="fsq", fsq_levels=levels, codebook_size=size, diversity=0.1)
    quantizer = Quantizer(len(levels), config)
    latents = torch.full((2, 35, len(levels)), -3.0, requires_grad=True)
    quantizer(latents)[2].backward()
    assert latents.grad.isfinite().all()
    assert latents.grad.any(), "still asked to spread"


@pytest.mark.parametrize(
    ("told", "left"),
    [
        ({"kind": "simvq", "ema_decay": 0.9}, {"kind": "simvq"}),
        ({"kind": "fsq", "commitment": 2.0, "diversity": 0.1}, {"kind": "fsq", "diversity": 0.1}),
        ({"kind": "learnable", "ema_decay": 0.9, "revive_period_updates": 7}, {"kind": "learnable"}),
        (
            {"kind": "ema", "ema_decay": 0.9, "revive_below": 1.0},
            {"kind": "ema", "ema_decay": 0.9, "revive_below": 1.0},
        ),
    ],
)
def test_an_artefact_of_a_version_that_let_idle_options_pass_is_read_without_them(told, left):
    assert QuantizerConfig.recorded(QuantizerConfig().model_dump() | told) == QuantizerConfig(**left)
    whole = VqvaeConfig().model_dump() | {"quantizer": told, "num_colours": 8}
    assert VqvaeConfig.recorded(whole) == VqvaeConfig(quantizer=left)
