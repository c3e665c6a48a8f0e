"""Each variant of the VQ-VAE: shapes, gradients, the same after saving, and one batch learnt by heart."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import ValidationError

from lapa_ray.models.colour import PaletteRgb
from lapa_ray.models.convolutions import LADDER
from lapa_ray.models.perceptual import AgentDistance, VggDistance
from lapa_ray.models.q_network import QNetwork, QNetworkConfig
from lapa_ray.models.quantizer import QuantizerConfig
from lapa_ray.models.reconstruction_loss import LossConfig, ReconstructionLoss, Target
from lapa_ray.models.vqvae import Vqvae, VqvaeConfig, VqvaeOutput
from tests.support.made_networks import narrow_vgg
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


def criterion_of(model: Vqvae, loss: dict | None = None, **networks) -> ReconstructionLoss:
    kind = "cross_entropy" if model.config.output == "palette" else "mse"
    fields = {"kind": kind, "changed_pixel_weight": 20} | (loss or {})
    return ReconstructionLoss(LossConfig.model_validate(fields), **networks)


Frames = tuple[torch.Tensor, torch.Tensor]


def target_of(model: Vqvae, criterion: ReconstructionLoss, frames: Frames, *, samples: bool = False) -> Target:
    return criterion.target(model, *frames, (frames[0] != frames[1]).any(dim=1), samples=samples)


def losses_of(model: Vqvae, criterion: ReconstructionLoss, frames: Frames) -> dict[str, torch.Tensor]:
    """What the loss is made of; at some places alone, where it looks at some."""
    target = target_of(model, criterion, frames, samples=True)
    output = model(*frames, target.places)
    return criterion(model, output, target) | {"quantizer_loss": output.quantizer_loss}


def blind_loss(model: Vqvae, criterion: ReconstructionLoss, frames: Frames) -> float:
    """Of the one picture (or one chance of each colour, pixel by pixel) that is best for all pairs alike."""
    target = target_of(model, criterion, frames)
    alike = torch.full(target.changed.shape, 1 / target.changed.numel())
    weights = alike if target.weights is None else target.weights
    if target.classes is not None:
        classes = torch.nn.functional.one_hot(target.classes, 8)
        chances = (weights[..., None] * classes).sum(dim=0) / weights.sum(dim=0)[..., None]
        return float((weights.sum(dim=0) * torch.special.entr(chances).sum(dim=-1)).sum())
    if criterion._config.kind == "l1":  # the best level of a pixel is that of some pair
        errors = [weights[:, None] * (frames[1] - candidate).abs() for candidate in frames[1]]
        return float(torch.stack(errors).sum(dim=1).amin(dim=0).mean(dim=0).sum())
    return float((weights * squares_of(mean_picture(weights, frames), frames)).sum())


def mean_picture(weights: torch.Tensor, frames: Frames) -> torch.Tensor:
    """The one that has the least squared errors, RGB [3, 210, 160]."""
    return (weights[:, None] * frames[1]).sum(dim=0) / weights.sum(dim=0)


def squares_of(picture: torch.Tensor, frames: Frames) -> torch.Tensor:
    return (frames[1] - picture).square().mean(dim=1)


def assert_gradients(model: Vqvae, criterion: ReconstructionLoss) -> None:
    if model.config.conditioning != "none":  # film begins as the identity, which hides what is before it
        torch.nn.init.normal_(next(model.conditioning.parameters()))
        for layer in getattr(model.conditioning, "affine", ()):
            torch.nn.init.normal_(layer.weight)
    sum(losses_of(model, criterion, pictures(model)).values()).backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


@EACH
def test_every_weight_gets_a_gradient(fields):
    model = built(fields)
    assert_gradients(model, criterion_of(model))


@EACH
def test_a_batch_is_learnt_by_heart(fields):
    """The picture's loss falls below half of what a decoder could reach that is told nothing of the pair.

    It takes 25 to 125 updates; how many depends on the order in which threads add up.
    """
    model = built(fields)
    criterion, frames = criterion_of(model), pictures(model, count=2)
    blind = blind_loss(model, criterion, frames)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    seen = []
    while len(seen) < 400 and min(seen, default=blind) > blind / 2:
        parts = losses_of(model, criterion, frames)
        optimizer.zero_grad()
        sum(parts.values()).backward()
        optimizer.step()
        seen.append(parts["reconstruction_loss"].item())
    assert min(seen) <= blind / 2, f"{blind:.3f} by one picture for all, {min(seen):.3f} by the model after {len(seen)}"


BENCH = yaml.safe_load((Path(__file__).parents[3] / "tune_configs/bench/train_vqvae_palette.yaml").read_text())
NARROW = {
    "channels": (16, 32, 32, 32),
    "num_colours": 8,
    "quantizer": BENCH["model"]["quantizer"] | {"codebook_size": 256},
}
PATCHES = {"patch": 4, "width": 16}
CLASSES = PALETTE | {"patch": 4}
SLOW = {"l1, all pixels alike", "expected colour"}
"""Learnt by heart in many seconds; the second is a part of the bench's."""
LOSSES = {
    "the source's": ({}, {"changed_pixel_weight": 0}),
    "l1": (PATCHES, {"kind": "l1"}),
    "l1, all pixels alike": ({}, {"kind": "l1", "changed_pixel_weight": 0}),
    "worst pixel": (PATCHES, {"worst_pixel_weight": 0.02}),
    "each pair alike": ({}, {"average": "pair"}),
    "rare colours": (CLASSES, {"rare_colour_power": 0.5}),
    "expected colour": (CLASSES, {"expected_colour_weight": 6}),
    "some places": (CLASSES, {"common_share": 0.06}),
    "the bench's": (BENCH["model"] | NARROW, BENCH["loss"]),
    "agent": ({}, {"agent_weight": 2.0}),
    "agent, palette": (CLASSES, {"agent_weight": 2.0}),
    "vgg": (PATCHES, {"vgg_weight": 2.0}),
}
EACH_LOSS = pytest.mark.parametrize(("fields", "loss"), LOSSES.values(), ids=LOSSES)


@pytest.fixture
def networks(tmp_path, monkeypatch):
    """What a loss looks through, with random weights."""
    torch.manual_seed(0)
    network = QNetwork(5, QNetworkConfig(channels=(4, 4, 4), hidden=8, frame_stack=2))
    return {"agent": AgentDistance(network, (210, 160)), "vgg": VggDistance(narrow_vgg(tmp_path, monkeypatch))}


def looking_through(model: Vqvae, loss: dict, networks: dict) -> ReconstructionLoss:
    through = {name: network for name, network in networks.items() if f"{name}_weight" in loss}
    return criterion_of(model, loss, **through)


def blind_parts(model: Vqvae, criterion: ReconstructionLoss, frames: Frames) -> dict[str, float]:
    """What each part of a loss is at least, told nothing of the pair; of a distance, what the mean picture has."""
    config, target = criterion._config, target_of(model, criterion, frames)
    parts = {"reconstruction_loss": blind_loss(model, criterion, frames)}
    mean = frames[1].mean(dim=0)
    if target.classes is not None:
        parts["picture"] = float(squares_of(mean, frames).mean())
    if config.worst_pixel_weight:  # at one pixel, of all pairs on average
        parts["worst_pixel_loss"] = config.worst_pixel_weight * float(squares_of(mean, frames).mean(dim=0).amax())
    if config.expected_colour_weight:
        weights = target.colour_weights
        squares = squares_of(mean_picture(weights, frames), frames)
        parts["colour_loss"] = config.expected_colour_weight * float((weights * squares).sum())
    shown = mean.expand_as(frames[1])
    if criterion.agent is not None:
        parts["agent_loss"] = config.agent_weight * float(criterion.agent(shown, frames[1], frames[0]))
    if criterion.vgg is not None:
        parts["vgg_loss"] = config.vgg_weight * float(criterion.vgg(shown, frames[1]))
    return parts


@EACH_LOSS
def test_every_weight_gets_a_gradient_of_each_loss(fields, loss, networks):
    model = built(fields)
    assert_gradients(model, looking_through(model, loss, networks))


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - SLOW))
def test_a_batch_is_learnt_by_heart_with_each_loss(name, networks):
    """Each of its parts, and the error of what classes show, falls below a third of what it is at least without a word
    of the pair; the worst pixel and VGG's distance, which come last, below that itself.

    Distances are learnt alone, for the pixels' error would bring them down too.
    """
    fields, loss = LOSSES[name]
    model = built(fields)
    criterion, frames = looking_through(model, loss, networks), pictures(model, count=2)
    bounds = blind_parts(model, criterion, frames)
    bounds = {part: bound if part in {"worst_pixel_loss", "vgg_loss"} else bound / 3 for part, bound in bounds.items()}
    learnt = bounds.keys() & {"agent_loss", "vgg_loss"} or bounds.keys()
    whole, optimizer = target_of(model, criterion, frames), torch.optim.Adam(model.parameters(), lr=1e-2)
    for update in range(1, 601):
        parts = losses_of(model, criterion, frames)
        optimizer.zero_grad()
        sum(part for name, part in parts.items() if name in {*learnt, "quantizer_loss"}).backward()
        optimizer.step()
        if update % 5 == 0:
            with torch.no_grad():
                output = model(*frames)
                told = criterion(model, output, whole)
                told["picture"] = squares_of(model.picture(output), frames).mean()
            if all(told[name] <= bounds[name] for name in learnt):
                break
    assert {name: told[name].item() for name in learnt} == {
        name: pytest.approx(0, abs=bounds[name]) for name in learnt
    }, f"after {update}"


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


@pytest.mark.parametrize("grid", ["7x5", "2x2"])
@pytest.mark.parametrize("kind", ["concat", "film", "cross_attention"])
def test_nothing_of_frame_t_leads_around_the_grid(kind, grid):
    """The decoder is told as many numbers of frame t as its first features have, or fewer; with these held fast, no
    other frame t changes what it makes.
    """
    model = built({"conditioning": kind, "grid": grid}).eval()
    for layer in getattr(model.conditioning, "affine", ()):  # which begin as the identity
        torch.nn.init.normal_(layer.weight)
    codes, (frame_t, other) = torch.randint(16, (4, model.config.num_tokens)), pictures(model)
    told = model.conditioning(frame_t)
    assert told.numel() <= 4 * model.config.num_tokens * model.config.widths[-1] < frame_t.numel() / 10
    decoded = model.decode(codes, frame_t)
    assert not torch.equal(model.decode(codes, other), decoded)
    model.conditioning.register_forward_hook(lambda *_: told)
    assert torch.equal(model.decode(codes, torch.randn_like(other)), decoded)
    model.train()
    made = [model._decoded(model.quantizer.look_up(codes), frame, None) for frame in (frame_t, other)]
    assert torch.equal(*made)


def test_a_picture_of_the_mean_colour_takes_back_what_rare_colours_weighed():
    """Trained with weights of 1/share, a pixel's logits at two even chances hide that one colour is rarer."""
    model = Vqvae(config_of(PALETTE | {"picture": "mean", "logit_adjustment": 1.0}))
    model.set_colours(torch.tensor([[-1.0, -1, -1], [1, 1, 1]]), torch.tensor([0.9, 0.1]))
    output = VqvaeOutput(torch.zeros(1, 8, 210, 160), torch.zeros(1, 35, dtype=torch.int64), torch.zeros(()))
    torch.testing.assert_close(model.picture(output), torch.full((1, 3, 210, 160), 0.1 - 0.9))
    torch.testing.assert_close(model.expected_picture(output), torch.zeros(1, 3, 210, 160))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_expected_colour_is_not_rounded_in_half_precision(dtype):
    model = built(PALETTE)
    logits = 3 * torch.randn(1, 8, 6, 5).to(dtype)
    expected = model.expected_colour(logits.float())
    with torch.autocast("cpu", dtype):
        assert torch.equal(model.expected_colour(logits), expected)
        assert torch.equal(model.expected_colour(logits.float()), expected)


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
        (
            {"quantizer": {"kind": "fsq", "fsq_levels": (4, 4), "codebook_dim": 3}},
            r"codebook_dim: has no meaning with kind fsq; leave it out, or use learnable, ema or simvq \[type",
        ),
        (
            {"quantizer": {"kind": "fsq", "fsq_levels": (4, 4), "commitment": 1}},
            r"commitment: has no meaning with kind fsq; leave it out, or use learnable, ema or simvq \[type",
        ),
        (
            {"quantizer": {"kind": "fsq", "fsq_levels": (4, 4), "ema_decay": 0.9}},
            r"ema_decay: has no meaning with kind fsq; leave it out, or use learnable or ema \[type",
        ),
        ({"quantizer": {"kind": "simvq", "ema_decay": 0.9}}, "ema_decay: has no meaning with kind simvq"),
        (
            {"quantizer": {"fsq_levels": (4, 4)}},
            r"fsq_levels: has no meaning with kind learnable; leave it out, or use fsq \[type",
        ),
        ({"quantizer": EMA | {"fsq_levels": (4, 4)}}, "fsq_levels: has no meaning with kind ema"),
        (
            {"quantizer": {"ema_decay": 0.9}},
            r"ema_decay: of learnable codes it counts uses, for revival alone; leave it out, or set revive_below",
        ),
        (
            {"quantizer": {"kind": "simvq", "revive_period_updates": 3}},
            "revive_period_updates: has no meaning with kind simvq",
        ),
        (
            {"quantizer": {"kind": "ema", "revive_period_updates": 3}},
            r"revive_period_updates: without revive_below nothing is revived; leave it out, or set revive_below \[type",
        ),
        ({"quantizer": {"cosine": True}}, "cosine: needs kind ema"),
        ({"num_colours": 8}, "num_colours: needs model.output palette"),
        ({"picture": "mean"}, "picture: needs model.output palette"),
        ({"logit_adjustment": 0.5}, "logit_adjustment: needs model.output palette"),
    ],
)
def test_what_does_not_go_together_is_refused(fields, told):
    with pytest.raises(ValidationError, match=told):
        config_of(fields)


@pytest.mark.parametrize("kind", ["learnable", "ema", "simvq", "fsq"])
def test_defaults_that_are_written_out_go_with_every_kind(kind):
    """As in the dump of a config; and what counts uses has a meaning where codes are revived by it."""
    sized = {"kind": kind, "codebook_size": 256}
    config = QuantizerConfig.model_validate(sized)
    assert QuantizerConfig.model_validate(config.model_dump()) == config
    if kind in {"learnable", "ema"}:
        QuantizerConfig.model_validate(sized | {"ema_decay": 0.9, "revive_below": 1, "revive_period_updates": 3})


def test_dead_codes_are_looked_for_as_often_as_asked():
    revival = QuantizerConfig(codebook_size=16, **(EMA | {"revive_below": 1e9, "revive_period_updates": 3}))
    model = built({"quantizer": revival.model_dump()})
    frames, revived = pictures(model), []
    for _ in range(6):
        model(*frames)
        revived.append(bool((model.quantizer.vq._codebook.cluster_size >= 1e9).all()))
    assert revived == [True, False, False, True, False, False]
