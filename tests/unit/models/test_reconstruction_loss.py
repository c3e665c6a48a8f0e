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
    criterion = ReconstructionLoss(LossConfig(**fields))
    told = criterion(MODEL, output, criterion.target(MODEL, true, true, changed))
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


def test_each_pair_counts_alike():
    told, difference, changed = parts(changed_pixel_weight=3.0, average="pair")
    weights, errors = 1 + 3.0 * changed, np.square(difference).mean(axis=1)
    of_pairs = (weights * errors).sum(axis=(1, 2)) / weights.sum(axis=(1, 2))
    assert told["reconstruction_loss"] == pytest.approx(of_pairs.mean(), rel=1e-5)
    assert weights[0].sum() != weights[1].sum()


def test_the_worst_pixel_of_each_picture():
    told, difference, _ = parts(worst_pixel_weight=0.5)
    worst = np.square(difference).mean(axis=1).reshape(2, -1).max(axis=1)
    assert told["worst_pixel_loss"] == pytest.approx(0.5 * worst.mean(), rel=1e-5)


COLOURS, COLOUR_SHARES = torch.tensor([[-1.0, -1, -1], [1, -1, 1], [1, 1, 1]]), torch.tensor([0.75, 0.04, 0.21])


def of_classes(**fields) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the loss says of three colours, a fourth class without one; logits, classes, where pixels changed."""
    model = Vqvae(VqvaeConfig(width=1, code_dim=1, output="palette", num_colours=4))
    model.set_colours(COLOURS, COLOUR_SHARES)
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(3, (2, 6, 5), generator=generator)
    true, changed = COLOURS[classes].permute(0, 3, 1, 2), torch.rand(2, 6, 5, generator=generator) < 0.3
    logits = torch.randn(2, 4, 6, 5, generator=generator)
    config = LossConfig(kind="cross_entropy", changed_pixel_weight=3, rare_colour_power=0.5, **fields)
    criterion = ReconstructionLoss(config)
    told = criterion(model, VqvaeOutput(logits, CODES, NOTHING), criterion.target(model, true, true, changed))
    return told, logits, classes, changed


def test_pixels_of_rare_colours_weigh_more():
    told, logits, classes, changed = of_classes()
    rare = COLOUR_SHARES.numpy() ** -0.5
    weights = (rare / (rare * COLOUR_SHARES.numpy()).sum())[classes] + 3 * changed.numpy()
    errors = -logits.log_softmax(dim=1).gather(1, classes[:, None])[:, 0].numpy()
    assert told["reconstruction_loss"].item() == pytest.approx((weights * errors).sum() / weights.sum(), rel=1e-5)


def test_how_far_the_expected_colour_is_off_counts():
    told, logits, classes, changed = of_classes(expected_colour_weight=2)
    true = COLOURS[classes].permute(0, 3, 1, 2)
    # Rare colours weigh no more in it, and a class without a colour has no part in the mean.
    weights = 1 + 3 * changed.numpy()
    chances = np.exp(logits[:, :3].numpy()) / np.exp(logits[:, :3].numpy()).sum(axis=1, keepdims=True)
    errors = np.square(np.einsum("nkhw,kc->nchw", chances, COLOURS.numpy()) - true.numpy()).mean(axis=1)
    assert told["colour_loss"].item() == pytest.approx(2 * (weights * errors).sum() / weights.sum(), rel=1e-5)


SHARES = torch.tensor([0.6, 0.395, 0.005])
"""Of three colours, the last of which is rare."""


def sampled(patch: int, share: float, **fields) -> tuple[Vqvae, ReconstructionLoss, tuple[torch.Tensor, ...]]:
    """A model of those colours, its loss, and pairs of pictures of two common ones, with a sprite of the rare one that
    moves, at the lower edge, where patches of four go on beyond the picture.
    """
    torch.manual_seed(0)
    model = Vqvae(VqvaeConfig(width=1, code_dim=1, output="palette", num_colours=4, patch=patch, background=True))
    model.set_colours(torch.tensor([[-1.0, -1, -1], [1, -1, 1], [1, 1, 1]]), SHARES)
    torch.nn.init.normal_(model.decoder.background)
    classes = torch.randint(2, (2, 210, 160))
    classes = torch.stack([classes, classes])
    classes[0, :, 200:, 20:30] = classes[1, :, 200:, 24:34] = 2
    frames = model.colours[classes].permute(0, 1, 4, 2, 3)
    config = LossConfig(
        kind="cross_entropy", changed_pixel_weight=10, rare_colour_power=0.5, common_share=share, **fields
    )
    return model, ReconstructionLoss(config), (*frames, (frames[0] != frames[1]).any(dim=1))


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_what_is_shown_at_some_places_is_what_the_whole_picture_shows_there(patch):
    model, criterion, given = sampled(patch, 0.5)
    target = criterion.target(model, *given, samples=True)
    whole, some = model.eval()(*given[:2]), model(*given[:2], target.places)
    beyond = (0, -160 % patch, 0, -210 % patch)
    patches = torch.nn.functional.pad(whole.shown, beyond).unfold(2, patch, patch).unfold(3, patch, patch)
    rows = patches.permute(0, 2, 3, 1, 4, 5).flatten(0, 2).flatten(2)[target.places]
    is_inside = rows.any(dim=1, keepdim=True).expand_as(rows)
    torch.testing.assert_close(some.shown[is_inside], rows[is_inside], atol=1e-5, rtol=1e-5)
    assert torch.equal(whole.codes, some.codes)


@pytest.mark.parametrize(("patch", "average"), [(1, "batch"), (2, "batch"), (4, "batch"), (4, "pair")])
@pytest.mark.parametrize("part", ["reconstruction_loss", "colour_loss"])
def test_the_loss_at_some_places_is_that_of_all_on_average(patch, average, part):
    model, criterion, given = sampled(patch, 0.25, average=average, expected_colour_weight=2)
    whole = criterion.target(model, *given)
    expected = criterion(model, model.eval()(*given[:2]), whole)[part].item()
    seen = []
    for _ in range(40):
        target = criterion.target(model, *given, samples=True)
        assert len(target.places) < 0.4 * 2 * -(-210 // patch) * -(-160 // patch)
        seen.append(criterion(model, model(*given[:2], target.places), target)[part].item())
    error = np.std(seen) / len(seen) ** 0.5
    assert 0 < error < 0.01 * expected
    assert np.mean(seen) == pytest.approx(expected, abs=4 * error)


@pytest.mark.parametrize("patch", [1, 4])
def test_what_changes_or_is_rare_is_always_looked_at(patch):
    model, criterion, given = sampled(patch, 1e-9)
    target = criterion.target(model, *given, samples=True)
    whole = criterion.target(model, *given)
    always = given[2] | (whole.classes == 2)
    rows, columns = torch.nonzero(always.any(dim=0)).T
    assert target.weights.amax() == whole.weights.amax()  # each stands for itself alone
    per_row, per_picture = -(-160 // patch), -(-210 // patch) * -(-160 // patch)
    of_one = torch.unique(rows // patch * per_row + columns // patch)
    assert target.places.tolist() == [*of_one.tolist(), *(of_one + per_picture).tolist()]


def test_classes_that_the_caller_knows_are_taken():
    model, criterion, given = sampled(4, 1.0)
    target = criterion.target(model, *given, torch.full((2, 210, 160), 2))
    assert (target.classes == 2).all()


def test_some_places_alone_have_no_whole_pictures():
    with pytest.raises(ValueError, match="common_share: worst_pixel_weight needs whole pictures"):
        LossConfig(common_share=0.5, worst_pixel_weight=1)


def test_a_place_is_looked_at_even_where_none_is_drawn():
    model, criterion, (frame_t, frame_t1, changed) = sampled(4, 1e-9)
    target = criterion.target(model, frame_t, frame_t1, changed & False, torch.zeros(2, 210, 160).long(), samples=True)
    assert target.places.tolist() == [0]
    told = criterion(model, model(frame_t, frame_t1, target.places), target)
    assert told["reconstruction_loss"].requires_grad


def test_shrunk_pictures_have_no_places():
    model = Vqvae(VqvaeConfig(width=1, code_dim=1, shrink=2))
    with pytest.raises(ValueError, match="places: not with shrink 2"):
        model(*torch.zeros(2, 1, 3, 210, 160), torch.zeros(1).long())
