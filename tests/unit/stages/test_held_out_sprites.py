"""Held-out sprites: a model that shows the truth has them all, one that shows frame t has what copy-last has."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from lapa_ray.models.colour import PaletteRgb
from lapa_ray.stages import held_out_sprites
from lapa_ray.stages.held_out_sprites import HeldOutSprites, recalls_of
from tests.support.drawn_play import NUM_STATES, PALETTE, drawn, ram_of
from tests.support.recordings import write_play

Frames = tuple[torch.Tensor, torch.Tensor]


class Shows:
    """In place of a model: shows one of the two frames, and counts the pairs that it was given."""

    def __init__(self, which: Callable[[Frames], torch.Tensor]) -> None:
        self.which, self.num_pairs = which, 0

    def __call__(self, frame_t: torch.Tensor, frame_t1: torch.Tensor) -> Frames:
        self.num_pairs += len(frame_t)
        return frame_t, frame_t1

    def picture(self, output: Frames) -> torch.Tensor:
        return self.which(output)


@pytest.fixture
def dataset(tmp_path):
    play = ram_of(), drawn(ram_of())
    return write_play(tmp_path / "frames", [play] * 3, palette=PALETTE)


def sprites(dataset, colour="rgb") -> HeldOutSprites:
    return HeldOutSprites(dataset, [0, 2], "last", PaletteRgb(dataset.info.palette, colour))


def test_the_truth_shows_all_and_frame_t_what_stood_still(dataset):
    true, before = (sprites(dataset).figures(Shows(lambda frames, at=at: frames[at])) for at in (1, 0))
    assert true["player_recall_2px"] == true["blinky_recall_2px"] == true["inky_recall_2px"] == 1
    assert math.isnan(true["fruit_recall_2px"]), "never shown"
    assert before["player_recall_2px"] == before["copy_last_player_recall_2px"] == 0
    assert before["inky_recall_2px"] == before["copy_last_inky_recall_2px"] == 1
    assert true["copy_last_player_recall_2px"] == 0


def test_as_many_pairs_as_said_of_the_held_out_episodes_alone(dataset, monkeypatch):
    model = Shows(lambda frames: frames[1])
    sprites(dataset).figures(model)
    assert model.num_pairs == 2 * (NUM_STATES - 1)
    monkeypatch.setattr(held_out_sprites, "NUM_PAIRS", 5)
    heard = []
    fewer = sprites(dataset)
    fewer.figures(model, heard.append)
    assert model.num_pairs == 2 * (NUM_STATES - 1) + 5
    assert (heard[-1], sorted(heard)) == (fewer.num_pairs, heard)
    assert fewer.num_pairs == 5


def test_nothing_is_told_of_grey_or_of_frames_without_ram(dataset, tmp_path):
    assert sprites(dataset, "grey").figures(Shows(lambda frames: frames[1])) == {}
    play = ram_of(), drawn(ram_of())
    blind = write_play(tmp_path / "imported", [play], palette=PALETTE, unknown=("ram",))
    assert HeldOutSprites(blind, [0], "last", PaletteRgb(PALETTE)).figures(Shows(lambda frames: frames[1])) == {}
    assert recalls_of(blind) == []


def test_which_figures_there_are_is_known_before(dataset):
    told = sprites(dataset).figures(Shows(lambda frames: frames[1]))
    assert recalls_of(dataset) == [name for name in told if not name.startswith("copy_last_")]
