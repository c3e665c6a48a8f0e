"""Each variant of the VQ-VAE: shapes, gradients, the same after saving, and one batch learnt by heart."""

from __future__ import annotations

import copy

import pytest
import torch
from pydantic import ValidationError

from lapa_ray.models.colour import PaletteRgb
from lapa_ray.models.convolutions import LADDER
from lapa_ray.models.quantizer import QuantizerConfig
from lapa_ray.models.reconstruction_loss import LossConfig, ReconstructionLoss
from lapa_ray.models.vqvae import Vqvae, VqvaeConfig, VqvaeOutput
from tests.support.pictures import grey_palette, wandering_square

EMA = {"kind": "ema", "cosine": True, "codebook_dim": 3, "kmeans_init": True, "revive_below": 0.5}
PALETTE = {"output": "palette", "num_colours": 8, "width": 16}  # of fewer channels it learns 8 classes slowly
VARIANTS = {
    "source": {},
    "channels": {"channels": (3, 5, 7, 9, 11)},
    "wide codes": {"code_dim": 32},
    "grid 4x3": {"grid": "4x3"},
    "grid 2x2": {"grid": "2x2"},
    "grid 1x1": {"grid": "1x1"},
    "half size": {"shrink": 2},
    "quarter size": {"shrink": 4},
    "patches of 2": {"patch": 2},
    "patches of 4": {"patch": 4},
    "patches of 4, half size, two tokens a side": {"patch": 4, "shrink": 2, "grid": "2x2"},
    "patches of 4, palette, background": PALETTE | {"patch": 4, "background": True},
    "patches of 2, quarter size": {"patch": 2, "shrink": 4},
    "patches of 4, concat": {"patch": 4, "conditioning": "concat"},
    "patches of 4, film": {"patch": 4, "conditioning": "film"},
    "patches of 4, cross-attention": {"patch": 4, "conditioning": "cross_attention"},
    "grey": {"colour": "grey"},
    "sigmoid": {"output": "sigmoid"},
    "palette": PALETTE,
    "palette's mean": PALETTE | {"picture": "mean", "logit_adjustment": 0.5},
    "background": {"background": True},
    "concat": {"conditioning": "concat"},
    "film": {"conditioning": "film"},
    "cross-attention": {"conditioning": "cross_attention"},
    "ema": {"quantizer": EMA},
    "revival now and then": {"quantizer": EMA | {"revive_period_updates": 3}},
    "diversity": {"quantizer": {"diversity": 0.01}},
    "rotation": {"quantizer": {"rotation_trick": True}},
    "simvq": {"quantizer": {"kind": "simvq"}},
    "simvq with rotation": {"quantizer": {"kind": "simvq", "rotation_trick": True}},
    "fsq": {"quantizer": {"kind": "fsq", "fsq_levels": (4, 4)}},
    "standardised": {"quantizer": EMA | {"standardise": True}},
    "fsq, standardised": {"quantizer": {"kind": "fsq", "fsq_levels": (4, 4), "standardise": True}},
    "fsq with diversity": {"quantizer": {"kind": "fsq", "fsq_levels": (4, 4), "diversity": 0.02}},
}
EACH = pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)


def config_of(fields: dict) -> VqvaeConfig:
    quantizer = {"codebook_size": 16} | fields.get("quantizer", {})
    return VqvaeConfig.model_validate({"width": 4, "code_dim": 8} | fields | {"quantizer": quantizer})


def pictures(model: Vqvae, count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    palette = PaletteRgb(grey_palette(), model.config.colour)
    shown = palette(torch.from_numpy(wandering_square(count + 1))).expand(-1, 3, -1, -1)
    return shown[:-1], shown[1:]


def built(fields: dict) -> Vqvae:
    torch.manual_seed(0)
    model = Vqvae(config_of(fields))
    if model.config.output == "palette":
        shown = pictures(model)[1].permute(0, 2, 3, 1).reshape(-1, 3)
        colours, counts = shown.unique(dim=0, return_counts=True)
        assert len(colours) < 8, "one class is to have no colour"
        model.set_colours(colours, counts / counts.sum())
    return model


@EACH
def test_shapes_range_and_the_way_back(fields):
    model = built(fields)
    frame_t, frame_t1 = pictures(model)
    output = model(frame_t, frame_t1)
    rows, columns = model.config.grid_size
    assert model.picture(output).shape == (4, 3, 210, 160)
    assert model.picture(output).abs().max() <= 1
    assert output.codes.shape == (4, rows * columns)
    assert output.codes.min() >= 0
    assert output.codes.max() < 16
    assert output.quantizer_loss.shape == ()
    output = model.eval()(frame_t, frame_t1)
    torch.testing.assert_close(model.decode(output.codes, frame_t), model.picture(output), atol=1e-4, rtol=0)


CHANGED_WEIGHT = 20


def losses_of(model: Vqvae, frame_t: torch.Tensor, frame_t1: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The whole loss, and its part for the picture."""
    kind = "cross_entropy" if model.config.output == "palette" else "mse"
    criterion = ReconstructionLoss(LossConfig(kind=kind, changed_pixel_weight=CHANGED_WEIGHT))
    output = model(frame_t, frame_t1)
    target = criterion.target(model, frame_t, frame_t1, (frame_t != frame_t1).any(dim=1))
    parts = criterion(model, output, target)
    return sum(parts.values()) + output.quantizer_loss, parts["reconstruction_loss"].item()


def blind_loss(model: Vqvae, frame_t: torch.Tensor, frame_t1: torch.Tensor) -> float:
    """Of the one picture (or one chance of each colour, pixel by pixel) that is best for all pairs alike."""
    weights = 1.0 + CHANGED_WEIGHT * (frame_t != frame_t1).any(dim=1)
    of_pixel = weights / weights.sum(dim=0)
    if model.config.output == "palette":
        classes = torch.nn.functional.one_hot(model.classes(frame_t1), 8)
        errors = torch.special.entr((of_pixel[..., None] * classes).sum(dim=0)).sum(dim=-1)
    else:
        mean = (of_pixel[:, None] * frame_t1).sum(dim=0)
        errors = (of_pixel * (frame_t1 - mean).square().mean(dim=1)).sum(dim=0)
    return float((weights.sum(dim=0) * errors).sum() / weights.sum())


@EACH
def test_every_weight_gets_a_gradient(fields):
    model = built(fields)
    if isinstance(fields.get("conditioning"), str):  # film begins as the identity, which hides what is before it
        torch.nn.init.normal_(next(model.conditioning.parameters()))
        for layer in getattr(model.conditioning, "affine", ()):
            torch.nn.init.normal_(layer.weight)
    losses_of(model, *pictures(model))[0].backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


@EACH
def test_a_batch_is_learnt_by_heart(fields):
    """The picture's loss falls below half of what a decoder could reach that is told nothing of the pair.

    It takes 25 to 125 updates; how many depends on the order in which threads add up.
    """
    model = built(fields)
    frames = pictures(model, count=2)
    blind = blind_loss(model, *frames)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    seen = []
    while len(seen) < 400 and min(seen, default=blind) > blind / 2:
        loss, of_picture = losses_of(model, *frames)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(of_picture)
    assert min(seen) <= blind / 2, f"{blind:.3f} by one picture for all, {min(seen):.3f} by the model after {len(seen)}"


@EACH
def test_the_same_after_saving(fields):
    model = built(fields)
    frames = pictures(model)
    model(*frames)
    other = Vqvae(model.config)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    one, two = (of.eval()(*frames) for of in (model, other))
    assert torch.equal(one.codes, two.codes)
    assert torch.equal(model.picture(one), other.picture(two))


def test_the_ladder_is_what_the_convolutions_lead_through():
    picture = torch.zeros(1, 1, *LADDER[0])
    for size in LADDER[1:]:
        picture = torch.nn.functional.conv2d(picture, torch.zeros(1, 1, 3, 3), stride=2, padding=1)
        assert tuple(picture.shape[2:]) == size


def test_a_conditioned_decoder_sees_frame_t_and_says_so_where_it_is_missing():
    model = built({"conditioning": "concat"}).eval()
    codes, (frame_t, frame_t1) = torch.zeros(4, 35, dtype=torch.int64), pictures(model)
    assert not torch.equal(model.decode(codes, frame_t), model.decode(codes, -frame_t1))
    with pytest.raises(ValueError, match="conditioning concat: the decoder needs frame t beside the codes"):
        model.decode(codes)
    plain = built({}).eval()
    assert torch.equal(plain.decode(codes, frame_t), plain.decode(codes))


def test_a_picture_of_the_mean_colour_takes_back_what_rare_colours_weighed():
    """Trained with weights of 1/share, a pixel's logits at two even chances hide that one colour is rarer."""
    model = Vqvae(config_of(PALETTE | {"picture": "mean", "logit_adjustment": 1.0}))
    model.set_colours(torch.tensor([[-1.0, -1, -1], [1, 1, 1]]), torch.tensor([0.9, 0.1]))
    output = VqvaeOutput(torch.zeros(1, 8, 210, 160), torch.zeros(1, 35, dtype=torch.int64), torch.zeros(()))
    torch.testing.assert_close(model.picture(output), torch.full((1, 3, 210, 160), 0.1 - 0.9))
    torch.testing.assert_close(model.expected_picture(output), torch.zeros(1, 3, 210, 160))


def test_the_last_layer_starts_at_the_shares_of_the_colours():
    model = Vqvae(config_of(PALETTE))
    model.set_colours(torch.tensor([[-1.0, -1, -1], [1, 1, 1]]), torch.tensor([0.75, 0.25]))
    chances = model.decoder.convolutions[-1].bias.softmax(dim=0)
    torch.testing.assert_close(chances[:2], torch.tensor([0.75, 0.25]), atol=1e-4, rtol=0)
    assert chances[2:].max() < 1e-5


def test_equal_colours_make_one_class():
    model = Vqvae(config_of(PALETTE))
    model.set_colours(torch.tensor([[1.0, 1, 1], [-1, -1, -1], [1, 1, 1]]), torch.tensor([0.5, 0.375, 0.125]))
    assert model.shares.tolist() == [0.375, 0.625, *[0.0] * 6]
    assert model.colours[:2].tolist() == [[-1, -1, -1], [1, 1, 1]]


def test_classes_are_the_nearest_colours():
    model = built({"output": "palette", "num_colours": 8})
    frames = pictures(model)[1]
    shown = model.colours[model.classes(frames)].permute(0, 3, 1, 2)
    assert torch.equal(shown, frames)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"channels": (1, 2)}, "channels: this grid, shrink and patch take 5 layers; got 2"),
        ({"quantizer": {"kind": "fsq"}}, r"fsq_levels: their product should be codebook_size \(16\); got 256"),
        ({"quantizer": {"kind": "simvq", "kmeans_init": True}}, "kmeans_init: has no meaning with kind simvq"),
        ({"quantizer": {"kind": "simvq", "diversity": 0.1}}, "diversity: has no meaning with kind simvq"),
        (
            {"quantizer": {"kind": "fsq", "fsq_levels": (4, 4), "rotation_trick": True}},
            "rotation_trick: has no meaning",
        ),
        ({"quantizer": {"cosine": True}}, "cosine: needs kind ema"),
        ({"picture": "mean"}, "picture: needs model.output palette"),
        ({"logit_adjustment": 0.5}, "logit_adjustment: needs model.output palette"),
    ],
)
def test_what_does_not_go_together_is_refused(fields, told):
    with pytest.raises(ValidationError, match=told):
        config_of(fields)


def test_dead_codes_are_looked_for_as_often_as_asked():
    revival = QuantizerConfig(codebook_size=16, **(EMA | {"revive_below": 1e9, "revive_period_updates": 3}))
    model = built({"quantizer": revival.model_dump()})
    frames, revived = pictures(model), []
    for _ in range(6):
        model(*frames)
        revived.append(bool((model.quantizer.vq._codebook.cluster_size >= 1e9).all()))
    assert revived == [True, False, False, True, False, False]
