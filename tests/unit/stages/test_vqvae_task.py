"""`train-vqvae`'s task: in half precision, compiled, with what its loss looks through, and which pairs it draws."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from lapa_ray.core.errors import IdentityMismatchError, LapaError, StoppedError
from lapa_ray.core.metric_log import read_metrics
from lapa_ray.core.stop import StopRequest
from lapa_ray.envs.ms_pacman import EATEN, MAZE, PHASE
from lapa_ray.models.checkpoint import load_checkpoint
from lapa_ray.models.perceptual import AgentDistance, VggDistance
from lapa_ray.models.q_network import load_agent, weights_path
from lapa_ray.models.reconstruction_loss import LossConfig
from lapa_ray.models.vqvae import VqvaeConfig
from lapa_ray.stages import train_vqvae
from lapa_ray.stages.fit import run_fit
from lapa_ray.stages.fit_checkpoints import LAST
from lapa_ray.stages.fit_config import FitResources, TrainingConfig
from lapa_ray.stages.sweep import begin
from lapa_ray.stages.sweep_config import SweepConfig
from lapa_ray.stages.sweep_plan import plan
from lapa_ray.stages.train_vqvae import check_perceptual, run
from lapa_ray.stages.vqvae_config import PairConfig, TrainVqvaeConfig
from lapa_ray.stages.vqvae_task import VqvaeTask
from tests.support.made_networks import made_agent, narrow_vgg
from tests.support.made_ram import made_ram
from tests.support.pictures import HEIGHT, WIDTH
from tests.support.recordings import write_play

NUM_EPISODES, NUM_STATES = 4, 10
TAGS = np.array([0, 1, 2, 3, 4, 5, 6, 6, 7, 8], dtype=np.uint8)
"""Of each state's picture: the seventh pair is still."""
FROZEN, STILL, DOT, SECOND_MAZE = [(0, 1), (1, 2), (2, 3)], [(6, 6)], [(5, 6)], [(6, 7), (7, 8)]


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    """Episodes all alike: a square that jumps over still stripes, and in the corner the picture's tag."""
    ram = made_ram(NUM_STATES)
    ram[:4, PHASE], ram[6:, EATEN], ram[7:, MAZE] = 0, 1, 1
    screens = np.tile((np.arange(WIDTH) // 40 * 30).astype(np.uint8), (NUM_STATES, HEIGHT, 1))
    for screen, tag in zip(screens, TAGS.tolist(), strict=True):
        top, left = 10 + 60 * (tag // 3), 50 * (tag % 3)
        screen[top : top + 40, left : left + 40] = 250
        screen[:10, :10] = tag
    return write_play(tmp_path_factory.mktemp("task") / "frames", [(ram, screens)] * NUM_EPISODES)


SMALL = {"width": 2, "code_dim": 4, "patch": 4, "quantizer": {"codebook_size": 16}}
FSQ = {"kind": "fsq", "codebook_size": 16, "fsq_levels": [4, 4], "diversity": 0.02, "standardise": True}
CLASSES = {"output": "palette", "num_colours": 8}
CROSS_ENTROPY = {"kind": "cross_entropy", "changed_pixel_weight": 10, "expected_colour_weight": 4.0}


def config_of(play, out: Path, num_updates: int, *, model=None, loss=None, pairs=None, batch=6, **resources):
    return TrainVqvaeConfig(
        frames=play.artefact.path,
        out=out,
        model=VqvaeConfig.model_validate(SMALL | (model or {})),
        loss=LossConfig.model_validate(loss or {}),
        pairs=PairConfig.model_validate(pairs or {}),
        learning_rate=0.01,
        training=TrainingConfig(
            num_epochs=num_updates, max_updates=num_updates, batch_size=batch, log_period_updates=1
        ),
        resources=FitResources(num_workers=0, device="cpu", throughput_period_updates=0, **resources),
    )


def train(play, folder: Path, num_updates: int, task=VqvaeTask, **how) -> list[dict]:
    """The rows of a training's updates."""
    folder.mkdir(exist_ok=True)
    config = config_of(play, folder, num_updates, **how)
    run_fit("train-vqvae", config, lambda share, device: task(config, share, device), folder, StopRequest())
    return rows_of(folder)


def rows_of(folder: Path) -> list[dict]:
    return [row for row in read_metrics(folder / "metrics.jsonl") if "train_loss" in row]


HALVES = {
    "ema": ({"quantizer": {"kind": "ema", "codebook_size": 16}}, {"changed_pixel_weight": 10}),
    "fsq": ({"quantizer": FSQ}, {"changed_pixel_weight": 10}),
    "palette": (CLASSES, CROSS_ENTROPY),
    "some places, mean": (CLASSES | {"picture": "mean", "background": True}, CROSS_ENTROPY | {"common_share": 0.3}),
}


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize(("model", "loss"), HALVES.values(), ids=HALVES)
def test_half_precision_learns_about_the_same_with_weights_of_float32(play, tmp_path, precision, model, loss):
    """float16 begins with a scale that the first updates may halve, in which nothing is learnt."""
    full = train(play, tmp_path / "float32", 1, model=model, loss=loss)
    half = train(play, tmp_path / "half", 24, model=model, loss=loss, precision=precision)
    losses = [row["train_loss"] for row in half]
    assert len(losses) == 24
    assert all(map(math.isfinite, losses))
    assert np.mean(losses[-3:]) < 0.8 * losses[0]
    state = load_checkpoint(tmp_path / "half" / LAST)
    kept = [*state["model"].values(), *(v for moment in state["optimizer"]["state"].values() for v in moment.values())]
    assert {value.dtype for value in kept} <= {torch.float32, torch.int64, torch.bool, torch.int32}
    assert all(value.isfinite().all() for value in kept)
    assert losses[0] != full[0]["train_loss"], "it was really half"
    for name in full[0].keys() - {"stage", "step"}:
        assert half[0][name] == pytest.approx(full[0][name], rel=0.05, abs=1e-3)


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own modules
def test_a_compiled_training_that_looks_at_some_places_has_the_losses_of_the_plain_one(play, tmp_path, monkeypatch):
    """Of which there are more or fewer in each batch. Traced forth and back; making C++ of it would take minutes."""
    counts, compiled, traced = [], [], partial(torch.compile, backend="aot_eager")

    class WatchedTask(VqvaeTask):
        def _target(self, pair, *, samples=False):
            target = super()._target(pair, samples=samples)
            if target.places is not None:
                counts.append(len(target.places))
            return target

    monkeypatch.setattr(torch, "compile", lambda network: compiled.append(network) or traced(network))
    how = {"model": CLASSES | {"quantizer": FSQ}, "loss": CROSS_ENTROPY | {"common_share": 0.3}, "task": WatchedTask}
    plain, made = (train(play, tmp_path / str(number), 3, compile=number == 1, **how) for number in range(2))
    assert len(compiled) == 1
    assert counts[:3] == counts[3:]
    assert len({*counts}) == 3
    assert len(plain) == 3
    for expected, told in zip(plain, made, strict=True):
        assert told.pop("stage") == expected.pop("stage")
        assert told == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.fixture
def distances(tmp_path, monkeypatch):
    """What a loss looks through, as its config says it."""
    torch.manual_seed(0)
    agent, vgg = made_agent(tmp_path / "agent"), narrow_vgg(tmp_path, monkeypatch)
    return {"agent_weight": 2.0, "agent": agent.path, "vgg_weight": 3.0, "vgg_weights": vgg}, agent


def test_a_loss_looks_through_the_agent_and_vgg_that_it_is_given(play, tmp_path, distances):
    loss, agent = distances
    artefact = run(config_of(play, tmp_path / "vqvae", 2, loss=loss))
    rows = rows_of(artefact.path)
    assert len(rows) == 2
    parts = ("reconstruction_loss", "agent_loss", "vgg_loss", "quantizer_loss")
    for row in rows:
        assert min(row["agent_loss"], row["vgg_loss"]) > 0
        assert row["train_loss"] == pytest.approx(sum(row[part] for part in parts))
    assert artefact.manifest.parents["agent"].identity == agent.identity


def test_each_distance_counts_by_its_weight_and_the_networks_learn_nothing(play, tmp_path, distances):
    loss, agent = distances
    seen = []

    class WatchedTask(VqvaeTask):
        def loss(self, network, turn):
            if not seen:
                pair = self._train.batch(turn)
                target = self._target(pair)
                with torch.no_grad():
                    shown = self._vqvae.train().expected_picture(network(target.frame_t, target.frame_t1))
                through = AgentDistance(load_agent(agent), (210, 160)), VggDistance(loss["vgg_weights"])
                seen.append(2.0 * float(through[0](shown, target.frame_t1, target.frame_t)))
                seen.append(3.0 * float(through[1](shown, target.frame_t1)))
                self.networks = self._criterion.state_dict()
                self.before = {name: value.clone() for name, value in self.networks.items()}
            torch.testing.assert_close(self.networks, self.before, rtol=0, atol=0)
            return super().loss(network, turn)

    first, _ = train(play, tmp_path / "vqvae", 2, loss=loss, task=WatchedTask)
    assert [first["agent_loss"], first["vgg_loss"]] == pytest.approx(seen, rel=1e-4)


def test_an_agent_without_weight_is_no_parent_and_is_not_looked_for(play, tmp_path):
    artefact = run(config_of(play, tmp_path / "vqvae", 1, loss={"agent": tmp_path / "nowhere"}))
    assert artefact.manifest.parents.keys() == {"frames"}
    assert "agent_loss" not in rows_of(artefact.path)[0]


def test_an_agent_that_is_none_is_refused(play, tmp_path):
    loss = {"agent_weight": 1.0, "agent": play.artefact.path}
    with pytest.raises(LapaError, match=r"frames holds a frames artefact; .*agent"):
        run(config_of(play, tmp_path / "vqvae", 1, loss=loss))


def test_what_a_loss_cannot_look_through_is_refused_before_anything_is_written(play, tmp_path, distances, monkeypatch):
    """Ray would be started after that."""
    loss, agent = distances
    monkeypatch.setattr(train_vqvae, "run_fit", None)
    weights_path(agent.path, use_per=False).unlink()
    nowhere = {"vgg_weight": 1.0, "vgg_weights": tmp_path / "nope.pth"}
    for fields, told in (
        (nowhere, r"^--loss\.vgg_weights .*nope\.pth: no such file; "),
        (loss, r"agent_NoPER\.pth: missing; "),
    ):
        with pytest.raises(LapaError, match=told) as error:
            run(config_of(play, tmp_path / "vqvae", 1, loss=fields))
        assert "\n" not in str(error.value)
        assert not (tmp_path / "vqvae").exists()
        with pytest.raises(LapaError, match=told):
            check_perceptual(config_of(play, tmp_path / "vqvae", 1, loss=fields))
    check_perceptual(config_of(play, tmp_path / "vqvae", 1, loss=nowhere | {"vgg_weight": 0.0}))


def test_other_weights_of_vgg_make_another_training_and_another_sweep(play, tmp_path, distances):
    loss, agent = distances
    stop = StopRequest()
    stop.set()
    begun = config_of(play, tmp_path / "vqvae", 2, loss=loss)
    with pytest.raises(StoppedError):
        train_vqvae.train(begun, stop)
    swept = SweepConfig(out=tmp_path / "sweep", frames=play.artefact.path, num_seeds=1, train={"loss": loss})
    draft = begin(swept, plan(swept), play)
    assert draft.run.parents["agent"].identity == agent.identity
    draft.pause()
    torch.save({name: value + 1 for name, value in torch.load(loss["vgg_weights"]).items()}, loss["vgg_weights"])
    with pytest.raises(IdentityMismatchError, match=r"loss\.vgg_weights \(SHA-256\): "):
        run(begun.model_copy(update={"resume": True}))
    again = swept.model_copy(update={"resume": True})
    with pytest.raises(IdentityMismatchError, match=r"vgg_weights \(SHA-256\): "):
        begin(again, plan(again), play)


NUM_DRAWN = 48


def drawn(play, folder: Path, **pairs) -> Counter:
    """How often each pair of tags is drawn in two updates, of all episodes together."""
    tags = Counter()

    class WatchedTask(VqvaeTask):
        def _target(self, pair, *, samples=False):
            if samples:
                tags.update(zip(*(part[:, 0, 0].tolist() for part in pair), strict=True))
            return super()._target(pair, samples=samples)

    train(play, folder, 2, task=WatchedTask, pairs=pairs, batch=NUM_DRAWN // 2)
    assert tags.total() == NUM_DRAWN
    return tags


def test_pairs_are_drawn_alike_where_nothing_is_asked(play, tmp_path):
    """Three of each in an epoch, of which 24 of 27 are drawn."""
    tags = drawn(play, tmp_path / "vqvae")
    assert tags.keys() == {*zip(TAGS[:-1].tolist(), TAGS[1:].tolist(), strict=True)}
    assert max(tags.values()) <= 6


@pytest.mark.parametrize("balance", ["none", "motion"])
def test_frozen_pairs_are_left_out_of_a_training(play, tmp_path, balance):
    tags = drawn(play, tmp_path / "vqvae", leave_out_frozen=True, balance=balance)
    assert tags.keys() == {*zip(TAGS[3:-1].tolist(), TAGS[4:].tolist(), strict=True)}
    assert tags.keys().isdisjoint(FROZEN)


@pytest.mark.parametrize(("balance", "rare"), [("motion", STILL), ("dots", DOT), ("mazes", SECOND_MAZE)])
def test_rare_kinds_of_pairs_are_half_of_what_a_training_draws(play, tmp_path, balance, rare):
    """Alike, they would be 6 or 12 at most."""
    tags = drawn(play, tmp_path / "vqvae", balance=balance)
    assert sum(tags[pair] for pair in rare) == pytest.approx(NUM_DRAWN / 2, abs=10)
