"""Held-out actions: codes that move the player agree beside any frame and say no place; codes of places do neither."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lapa_ray.envs.entities import entities_of
from lapa_ray.envs.ms_pacman import X, Y
from lapa_ray.evaluation.sweep_results import SWAP_SHEET
from lapa_ray.evaluation.sweep_uses import CELL_LEAKAGE, FOUND, LEAKAGE, MOVEMENT, PROBE_STEPS, RANDOM_SWAP, SWAP
from lapa_ray.models.colour import PaletteRgb
from lapa_ray.stages import held_out_actions
from lapa_ray.stages.held_out_actions import HeldOutActions
from lapa_ray.stages.screen_codes import codes_of
from lapa_ray.stages.train_vqvae import run
from lapa_ray.stages.vqvae_config import TrainVqvaeConfig
from tests.support.drawn_play import FLOOR, PALETTE, drawn
from tests.support.made_ram import made_ram
from tests.support.recordings import write_play

NUM_STATES, STEP = 120, 4
WAYS = np.array([[0, -STEP], [STEP, 0], [0, STEP], [-STEP, 0]])
"""Right and down of codes 0 to 3."""
LOW, HIGH = np.array([40, 40]), np.array([100, 100])
COLUMN = 40
"""Places told apart across."""


def ram_of(seed: int) -> np.ndarray:
    """The player goes about a square, straight on for a few steps at a time; the ghosts stand in a corner."""
    generator, ram = np.random.default_rng(seed), made_ram(NUM_STATES)
    place, way = (LOW + HIGH) // 2, 0
    for state in range(NUM_STATES):
        ram[state, X["player"]], ram[state, Y["player"]] = place
        if generator.random() < 0.3:
            way = int(generator.integers(4))
        while ((place + WAYS[way] < LOW) | (place + WAYS[way] > HIGH)).any():
            way = int(generator.integers(4))
        place = place + WAYS[way]
    return ram


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    plays = [(ram, drawn(ram)) for ram in map(ram_of, range(8))]
    return write_play(tmp_path_factory.mktemp("walks") / "frames", plays, palette=PALETTE)


class Walks:
    """In place of a model: one code a pair, which way the player goes."""

    def __init__(self, sprite: np.ndarray, conditioning: str = "concat") -> None:
        """`sprite`: RGB of the player."""
        quantizer = SimpleNamespace(codebook_size=COLUMN * COLUMN)
        self.config = SimpleNamespace(conditioning=conditioning, num_tokens=1, quantizer=quantizer)
        self._sprite = torch.from_numpy(sprite.copy()).float() / 127.5 - 1
        self._floor = torch.from_numpy(PALETTE[FLOOR].copy()).float() / 127.5 - 1

    def encode_pair(self, frame_t: torch.Tensor, frame_t1: torch.Tensor) -> torch.Tensor:
        moved = self.places(frame_t1) - self.places(frame_t)
        return torch.stack([torch.from_numpy(WAYS).sub(one).abs().sum(dim=1).argmin() for one in moved])[:, None]

    def decode(self, codes: torch.Tensor, frame_t: torch.Tensor) -> torch.Tensor:
        return self.drawn(self.places(frame_t) + torch.from_numpy(WAYS)[codes[:, 0]], frame_t)

    def places(self, frames: torch.Tensor) -> torch.Tensor:
        """Left and top of the player in each, int64 [B, 2]; 0 where it is not seen."""
        is_player = (frames - self._sprite[None, :, None, None]).abs().amax(dim=1) < 0.01
        found = [torch.nonzero(where) for where in is_player]
        return torch.stack([at.amin(dim=0).flip(0) if len(at) else torch.zeros(2, dtype=torch.int64) for at in found])

    def drawn(self, places: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        shown = self._floor[None, :, None, None].expand_as(frames).clone()
        for picture, (left, top) in zip(shown, places.tolist(), strict=True):
            picture[:, top : top + 8, left : left + 6] = self._sprite[:, None, None]
        return shown


class Places(Walks):
    """One code a pair, where the player is after it, whatever it is decoded beside."""

    def encode_pair(self, frame_t: torch.Tensor, frame_t1: torch.Tensor) -> torch.Tensor:
        places = self.places(frame_t1) // STEP
        return (places[:, 0] + COLUMN * places[:, 1])[:, None]

    def decode(self, codes: torch.Tensor, frame_t: torch.Tensor) -> torch.Tensor:
        return self.drawn(STEP * torch.cat([codes % COLUMN, codes // COLUMN], dim=1), frame_t)


def sprite(dataset) -> np.ndarray:
    looks = held_out_actions.PlayerLook.of("MsPacman", entities_of("MsPacman").read(ram_of(0)), dataset.info.palette)
    return looks.colour


def actions(dataset, num_swaps: int = 40, colour="rgb") -> HeldOutActions:
    parts = [0, 1, 2, 3], [4, 5, 6, 7]
    return HeldOutActions(dataset, parts, "last", PaletteRgb(dataset.info.palette, colour), num_swaps)


def test_codes_that_move_the_player_do_so_beside_any_frame_and_say_no_place(dataset):
    found = actions(dataset).findings(Walks(sprite(dataset)))
    assert found.figures[SWAP] == found.figures[FOUND] == 1
    assert found.figures[RANDOM_SWAP] < 0.6
    assert found.figures[MOVEMENT] > 0.95
    assert found.figures[LEAKAGE] < 0.2 < found.figures[CELL_LEAKAGE]
    assert 400 < found.figures[PROBE_STEPS] <= 4 * (NUM_STATES - 1)
    rows, columns, _ = found.sheet.shape
    assert (rows, columns) == (4 * 210 + 3 * 4, 4 * 160 + 3 * 4), (
        "a row each way: A before and after, B before, decoded"
    )


def test_codes_of_places_move_nothing_alike(dataset):
    figures = actions(dataset).findings(Places(sprite(dataset))).figures
    assert figures[SWAP] < 0.1
    assert figures[LEAKAGE] > 0.7


def test_only_pairs_that_are_asked_of_are_encoded(dataset, monkeypatch):
    monkeypatch.setattr(held_out_actions, "PROBE_STEPS", 60)
    monkeypatch.setattr(held_out_actions, "PROBED_STEPS", 50)
    model, seen = Walks(sprite(dataset)), []
    plain = model.encode_pair
    model.encode_pair = lambda before, after: (seen.append(len(before)), plain(before, after))[1]
    actions(dataset, num_swaps=7).findings(model)
    assert sum(seen) <= 60 + 50 + 7


def test_no_swaps_where_the_decoder_sees_no_frame_or_grey_alone_and_nothing_without_ram(dataset, tmp_path):
    blind = actions(dataset).findings(Walks(sprite(dataset), conditioning="none"))
    assert set(blind.figures) == {LEAKAGE, MOVEMENT, PROBE_STEPS, CELL_LEAKAGE}
    assert blind.sheet is None
    assert SWAP not in actions(dataset, colour="grey").findings(Walks(sprite(dataset))).figures
    play = ram_of(0), drawn(ram_of(0))
    imported = write_play(tmp_path / "imported", [play] * 8, palette=PALETTE, unknown=("ram",))
    assert dict(actions(imported).findings(Walks(sprite(dataset))).figures) == {}


def test_codes_of_chosen_steps_are_those_of_all_at_these_steps(dataset):
    model, palette, composites = Walks(sprite(dataset)), PaletteRgb(PALETTE), dataset.composites(4, "last")
    whole = codes_of(model, palette, composites)
    assert whole.shape == (NUM_STATES - 1, 1)
    assert (codes_of(model, palette, composites, np.array([3, 100])) == whole[[3, 100]]).all()
    assert codes_of(model, palette, composites[:1]).shape == (0, 1)


@pytest.mark.parametrize("output", ["tanh", "palette"])
def test_a_training_ends_with_swaps_and_what_they_came_to(dataset, tmp_path, output):
    classes = {"output": "palette", "num_colours": 8} if output == "palette" else {}
    model = {"width": 2, "code_dim": 4, "patch": 4, "conditioning": "concat", "quantizer": {"codebook_size": 16}}
    config = TrainVqvaeConfig(
        frames=dataset.artefact.path,
        out=tmp_path / "vqvae",
        model=model | classes,
        loss={"kind": "cross_entropy"} if classes else {},
        training={"max_updates": 1, "batch_size": 4},
        resources={"num_workers": 0, "device": "cpu"},
        observe={"num_swaps": 5},
    )
    figures = run(config).manifest.figures
    assert {SWAP, RANDOM_SWAP, FOUND, LEAKAGE, MOVEMENT} <= {name.removeprefix("val_") for name in figures}
    assert (tmp_path / "vqvae" / SWAP_SHEET).read_bytes().startswith(b"\x89PNG")
    without = config.model_copy(
        update={"out": tmp_path / "without", "observe": config.observe.model_copy(update={"num_swaps": 0})}
    )
    assert f"val_{LEAKAGE}" not in run(without).manifest.figures
    assert not (tmp_path / "without" / SWAP_SHEET).exists()
