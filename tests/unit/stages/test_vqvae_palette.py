"""`train-vqvae` with colours as classes: which, how common, and that what was learnt is there after loading."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from lapa_ray.core.errors import LapaError
from lapa_ray.dataset.splits import named_parts
from lapa_ray.models.checkpoint import load_checkpoint, save_checkpoint
from lapa_ray.models.colour import PaletteRgb
from lapa_ray.models.quantizer import QuantizerConfig
from lapa_ray.models.reconstruction_loss import LossConfig
from lapa_ray.models.vqvae import Vqvae, VqvaeConfig, load_vqvae, read_vqvae
from lapa_ray.stages.fit_checkpoints import LAST
from lapa_ray.stages.fit_config import FitResources, TrainingConfig
from lapa_ray.stages.fit_loop import Fit
from lapa_ray.stages.fit_share import Share
from lapa_ray.stages.train_vqvae import run
from lapa_ray.stages.vqvae_colours import commonest_indices
from lapa_ray.stages.vqvae_config import TrainVqvaeConfig
from lapa_ray.stages.vqvae_task import VqvaeTask
from tests.support.drawn_play import PALETTE, drawn, ram_of
from tests.support.recordings import write_play

NUM_EPISODES = 4


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    episodes = [(ram_of(), drawn(ram_of())) for _ in range(NUM_EPISODES)]
    episodes[-1][1][:, :40] = 7  # a colour that the last episode alone has
    return write_play(tmp_path_factory.mktemp("palette") / "frames", episodes, palette=PALETTE)


def test_the_commonest_colours_and_their_shares_of_all_pixels(play):
    counts = sum(np.bincount(play.composites(episode).ravel(), minlength=256) for episode in range(NUM_EPISODES))
    indices, shares = commonest_indices(play, range(NUM_EPISODES), "max4", 256)
    assert {*indices.tolist()} == {*np.flatnonzero(counts).tolist()}
    np.testing.assert_allclose(shares, counts[indices] / counts.sum(), rtol=1e-6)
    assert (np.diff(shares) <= 0).all()
    few, of_few = commonest_indices(play, range(NUM_EPISODES), "max4", 3)
    assert few.tolist() == indices[:3].tolist()
    assert of_few.sum() == pytest.approx(1)


def config_of(play, out, **fields) -> TrainVqvaeConfig:
    model = VqvaeConfig(
        width=2, code_dim=4, quantizer=QuantizerConfig(codebook_size=8), output="palette", patch=4, num_colours=5
    )
    loss = LossConfig(kind="cross_entropy", changed_pixel_weight=10, rare_colour_power=0.5, **fields)
    return TrainVqvaeConfig(
        frames=play.artefact.path,
        out=out,
        model=model,
        loss=loss,
        training=TrainingConfig(max_updates=4, batch_size=4),
        resources=FitResources(num_workers=0, device="cpu"),
    )


def test_classes_by_index_are_those_by_colour(play, tmp_path):
    """Of five classes, so that some indices have the nearest colour, not their own."""
    task = VqvaeTask(config_of(play, tmp_path / "vqvae"), Share(), torch.device("cpu"))
    screens = torch.from_numpy(np.arange(256, dtype=np.uint8).repeat(210 * 160 // 256 + 1)[: 210 * 160])
    screens = screens.reshape(1, 210, 160)
    rgb = PaletteRgb(PALETTE)(screens)
    target = task._target((screens.numpy(), screens.numpy()))
    assert torch.equal(target.classes, task.model.classes(rgb))
    assert len(target.classes.unique()) == 5


def test_a_training_that_looks_at_some_places_resumes_to_the_same_weights(play, tmp_path):
    fields = {"common_share": 0.3, "average": "pair", "expected_colour_weight": 2.0}
    whole = run(config_of(play, tmp_path / "whole", **fields))
    config = config_of(play, tmp_path / "parts", **fields)
    (tmp_path / "parts").mkdir()
    task = VqvaeTask(config, Share(), torch.device("cpu"))
    for last in (2, 4):
        fit = Fit("train-vqvae", config, task, tmp_path / "parts", Share())
        fit(lambda fit=fit, last=last: fit.update >= last, lambda _update, _note: None)
        task = VqvaeTask(config, Share(), torch.device("cpu"))
    one, other = (load_checkpoint(folder / LAST)["model"] for folder in (whole.path, tmp_path / "parts"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


RGB = {"output": "tanh", "num_colours": 16}


@pytest.mark.parametrize("fields", [RGB, {"shrink": 2}])
def test_some_places_alone_need_classes_at_full_size(play, tmp_path, fields):
    config = config_of(play, tmp_path / "vqvae").model_dump()
    config["model"] |= fields
    config["loss"] |= {"common_share": 0.5} | ({"kind": "mse", "rare_colour_power": 0} if "output" in fields else {})
    with pytest.raises(ValidationError, match=r"loss\.common_share: needs model\.output palette and shrink 1"):
        TrainVqvaeConfig.model_validate(config)


def test_the_expected_colour_needs_classes(play, tmp_path):
    config = config_of(play, tmp_path / "vqvae").model_dump()
    config["model"] |= RGB
    config["loss"] = {"expected_colour_weight": 2.0}
    with pytest.raises(ValidationError, match=r"loss\.expected_colour_weight: needs model\.output palette"):
        TrainVqvaeConfig.model_validate(config)


def test_a_training_with_classes_from_frames_to_artefact(play, tmp_path):
    quantizer = QuantizerConfig(codebook_size=8)
    model = VqvaeConfig(
        width=2, code_dim=4, quantizer=quantizer, output="palette", picture="mean", logit_adjustment=0.25,
        background=True, conditioning="concat",
    )  # fmt: skip
    artefact = run(
        TrainVqvaeConfig(
            frames=play.artefact.path,
            out=tmp_path / "vqvae",
            model=model,
            loss=LossConfig(kind="cross_entropy", changed_pixel_weight=10, rare_colour_power=0.5),
            training=TrainingConfig(max_updates=3, batch_size=4),
            resources=FitResources(num_workers=0, device="cpu"),
        )
    )
    figures, loaded = artefact.manifest.figures, load_vqvae(artefact)
    assert figures["val_player_recall_2px"] is not None, "looked for in 8 pairs"
    assert figures["val_copy_last_inky_recall_2px"] == 1
    indices, shares = commonest_indices(play, named_parts(play.episode_ids, "90/10", play.name)[0], "max4", 16)
    order = np.lexsort(PALETTE[indices].T[::-1])  # of the classes, by their colours
    torch.testing.assert_close(loaded.shares[: len(shares)], torch.from_numpy(shares[order]))
    assert not loaded.shares[len(shares) :].any()
    colours = (loaded.colours[: len(indices)] + 1) * 127.5
    np.testing.assert_allclose(colours.numpy(), PALETTE[indices[order]], atol=1e-3)
    assert loaded.decoder.background.any(), "learnt, and kept"


def test_a_checkpoint_from_before_the_shares_is_named(tmp_path):
    config = VqvaeConfig(width=2, code_dim=4, quantizer=QuantizerConfig(codebook_size=8), output="palette")
    weights = {name: value for name, value in Vqvae(config).state_dict().items() if name != "shares"}
    save_checkpoint(tmp_path / "best.pt", {"model": weights})
    with pytest.raises(LapaError, match=r"best\.pt: of a version that did not keep how common colours are"):
        read_vqvae(tmp_path / "best.pt", config)
