"""Entity figures of pictures drawn from made RAM: what the model moved, left out or misread is in the figures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lapa_ray.core.pictures import grey_levels
from lapa_ray.envs.entities import entities_of
from lapa_ray.envs.looks import looks_of
from lapa_ray.envs.ms_pacman import GHOSTS, HEADING
from lapa_ray.evaluation.entity_figures import EntityMeter
from tests.support.drawn_play import DOT, FLOOR, NUM_STATES, PALETTE, drawn, ram_of
from tests.support.made_ram import made_ram


def measured(change=lambda screens: screens, **given) -> dict:
    """Figures of a model that shows the truth, but for what `change` does to it."""
    ram = ram_of()
    screens, steps = drawn(ram), np.arange(NUM_STATES - 1)
    meter = EntityMeter(given.get("game", "MsPacman"), given.get("palette", PALETTE))
    meter.begin(3, screens, given.get("ram", ram))
    made = change(screens[1:].copy())
    for part in (steps[:5], steps[5:]):
        meter.update(part, torch.from_numpy(PALETTE[made[part]]).permute(0, 3, 1, 2))
    group = meter.group(0, "All.")
    return {figure.name: figure for figure in group.figures} | {"missing": group.missing}


def test_the_truth_has_everything_and_the_bound_says_so():
    figures = measured()
    assert figures.pop("missing") == ""
    counted = {name: figure for name, figure in figures.items() if figure.estimate.num_samples}
    assert {"player_recall_1px", "frightened_recall_2px", "dots_gone_f1", "score_digits_changed_read"} <= set(counted)
    assert {"fruit_recall_1px", "sue_recall_1px", "pinky_moved_recall_2px"}.isdisjoint(counted)  # never shown, or still
    for name, figure in counted.items():
        perfect = 0 if name.endswith("error_px") else 1
        assert figure.estimate.value == perfect, name
        assert figure.references["true_frame"].value == perfect, name


def test_copy_last_is_the_picture_before():
    figures = measured()
    player = figures["player_position_error_px"].baselines["copy_last_frame"]
    assert player.value == pytest.approx(8, abs=0.5)  # a cell a step, 12 px once across the middle and then too far
    for name in ("player_recall_2px", "dots_gone_f1", "blinky_moved_recall_2px", "score_digits_changed_read"):
        assert figures[name].baselines["copy_last_frame"].value == 0, name
    assert figures["inky_recall_1px"].baselines["copy_last_frame"].value == 1
    digits = figures["score_digits_read"].baselines["copy_last_frame"]
    assert digits.value == pytest.approx(1 - 1 / (6 * (NUM_STATES - 1)))


def test_what_the_model_does_to_one_thing_is_in_its_figures():
    def change(screens: np.ndarray) -> np.ndarray:
        player, ghost = screens == 42, screens == 70
        screens[player | ghost] = FLOOR
        screens[np.roll(player, 3, axis=2)] = 42
        return screens

    figures = measured(change)
    assert figures["player_position_error_px"].estimate.value == pytest.approx(3)
    assert figures["player_recall_2px"].estimate.value == 0
    assert figures["blinky_recall_2px"].estimate.value == 0
    assert figures["blinky_position_error_px"].estimate.value is None
    assert figures["inky_recall_1px"].estimate.value == 1
    assert figures["frightened_recall_1px"].estimate.value == 1


def test_dots_and_digits_that_the_model_leaves_out():
    def change(screens: np.ndarray) -> np.ndarray:
        screens[screens == DOT] = FLOOR
        screens[screens == 40] = 0
        return screens

    figures = measured(change)
    assert figures["dots_f1"].estimate.value == 0
    assert figures["score_digits_changed_read"].estimate.value == 0
    assert figures["score_digits_read"].estimate.value == pytest.approx(1 - 5 / (6 * (NUM_STATES - 1)))
    assert figures["player_recall_1px"].estimate.value == 1


def test_why_nothing_is_measured_is_said():
    assert "of Pong look like is not known" in measured(game="Pong")["missing"]
    assert "without RAM" in measured(ram=None)["missing"]
    grey = np.repeat(grey_levels(PALETTE)[:, None], 3, axis=1)
    for palette in (grey, np.empty((0, 3), np.uint8)):
        assert "RGB imports or grey" in measured(palette=palette)["missing"]


def test_frightened_ghosts_near_each_other_are_not_told_apart():
    ram = made_ram(1, sue=80, inky=81, pinky=180, blinky=20)
    ram[:, [HEADING[name] for name in GHOSTS]] |= 0x80
    sprites = looks_of("MsPacman").sprites(entities_of("MsPacman").read(ram))
    wanted = [bool(sought.wanted[0]) for sought in sprites if sought.name == "frightened"]
    assert wanted == [False, False, True, True]
    assert not any(sought.wanted[0] for sought in sprites if sought.name in GHOSTS)
