"""Alignment, horizons and baselines, with a world model and a decoder whose every output is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lapa_ray.evaluation.codes import CodeStatistics
from lapa_ray.evaluation.model_figures import codes_group, horizon_curves, world_model_group
from lapa_ray.evaluation.rollouts import (
    CodeTrack,
    OpenLoopMeter,
    TeacherForcedMeter,
    decoded_film,
    open_loop,
    possible_starts,
    spread,
)

POSITIONS, SIZE = 3, 50
PALETTE = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


def counting_dynamics(codes: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """The next code is the last one plus the action, at every position."""
    return torch.nn.functional.one_hot((codes + action[:, None]) % SIZE, SIZE).float()


def counting_track(actions: list[int], episode_id: int = 0) -> CodeTrack:
    """codes[t] = codes[t−1] + action of step t, so the counting dynamics are always right."""
    taken = np.array(actions, dtype=np.int8)
    codes = np.cumsum(taken.astype(np.int16))[:, None] + np.arange(POSITIONS, dtype=np.int16)
    return CodeTrack(episode_id, codes % SIZE, taken)


def decode(codes: torch.Tensor, _frame_t: torch.Tensor) -> torch.Tensor:
    """Grey pictures of 1×P pixels whose level is the code."""
    grey = codes.float() / 127.5 - 1
    return grey[:, None, None, :].expand(-1, 3, 1, -1)


def composites_of(track: CodeTrack) -> np.ndarray:
    """c_0 is black; c_(t+1) shows codes[t]."""
    first = np.zeros((1, 1, POSITIONS), dtype=np.uint8)
    return np.concatenate([first, track.codes[:, None].astype(np.uint8)])


def open_loop_meter(horizon: int) -> OpenLoopMeter:
    mode = np.zeros(POSITIONS, dtype=np.int64)
    return OpenLoopMeter(counting_dynamics, decode, mode, PALETTE, horizon=horizon)


def test_open_loop_feeds_the_model_its_own_predictions() -> None:
    predicted = open_loop(counting_dynamics, np.array([[0, 1, 2]]), np.array([[1, 0, 5]]))
    assert predicted[0].tolist() == [[1, 2, 3], [1, 2, 3], [6, 7, 8]]


def test_the_right_dynamics_are_right_at_every_step_and_horizon() -> None:
    track = counting_track([1, 0, 2, 1, 1, 0, 3, 1, 2, 1])
    teacher = TeacherForcedMeter(counting_dynamics, np.zeros(POSITIONS), batch_size=4)
    teacher.update(track)
    assert teacher.accuracy["model"].accuracy().value == 1
    assert teacher.accuracy["model"].accuracy().num_samples == 9 * POSITIONS
    meter = open_loop_meter(horizon=4)
    meter.update(track, composites_of(track), possible_starts(10, 4), np.array([1, 3]))
    for h in range(4):
        assert meter.accuracy[h]["model"].accuracy().value == 1
        assert meter.pixels[h]["model"].l1().value == 0
        assert meter.pixels[h]["true_codes"].l1().value == 0


def test_an_action_off_by_one_step_is_wrong() -> None:
    track = counting_track([1, 0, 2, 1, 1, 0, 3, 1, 2, 1])
    shifted = CodeTrack(0, track.codes, np.roll(track.actions, 1))
    teacher = TeacherForcedMeter(counting_dynamics, np.zeros(POSITIONS), batch_size=4)
    teacher.update(shifted)
    assert (teacher.accuracy["model"].accuracy().value or 0) < 0.5


def test_copy_last_holds_the_last_grid_and_frame_at_every_horizon() -> None:
    track = counting_track([1, 0, 0, 2, 0, 0, 0, 1])
    meter = open_loop_meter(horizon=3)
    starts = possible_starts(8, 3)
    composites = composites_of(track)
    meter.update(track, composites, starts, starts)
    for h in range(3):
        expected = np.mean([np.mean(track.codes[s + h] == track.codes[s - 1]) for s in starts])
        assert meter.accuracy[h]["copy_last_codes"].accuracy().value == pytest.approx(expected)
        assert meter.accuracy[h]["copy_last_codes"].changed_accuracy().value in {0, None}
        error = np.mean([np.abs(composites[s + h + 1].astype(int) - composites[s]).mean() for s in starts])
        assert meter.pixels[h]["copy_last_frame"].l1().value == pytest.approx(error)


def test_possible_starts_have_a_past_and_a_future() -> None:
    assert possible_starts(10, 4).tolist() == [1, 2, 3, 4, 5, 6]
    assert possible_starts(5, 4).tolist() == [1]
    assert possible_starts(4, 4).tolist() == []


def test_spread_is_even_and_within_bounds() -> None:
    chosen = spread({3: 10, 5: 0, 8: 30}, 8)
    assert sum(len(part) for part in chosen.values()) == 8
    assert len(chosen[5]) == 0
    assert chosen[3].max() < 10
    assert chosen[8].max() == 29
    assert spread({1: 3}, 10)[1].tolist() == [0, 1, 2]
    assert spread({}, 10) == {}


def test_groups_and_curves_tell_each_figure_beside_its_baselines() -> None:
    track = counting_track([1, 0, 2, 1, 1, 0, 3, 1, 2, 1])
    teacher = TeacherForcedMeter(counting_dynamics, np.zeros(POSITIONS), batch_size=4)
    teacher.update(track)
    meter = open_loop_meter(horizon=4)
    meter.update(track, composites_of(track), possible_starts(10, 4), np.array([1]))
    group = world_model_group(teacher, meter, 0, "ten steps")
    figures = {figure.name: figure for figure in group.figures}
    assert figures["world_model_teacher_forced_accuracy"].verdict() == "ahead"
    assert set(figures["world_model_open_loop_h4_accuracy"].baselines) == {"copy_last_codes", "position_mode"}
    curves = {curve.name: curve for curve in horizon_curves(meter, 0)}
    assert curves["open_loop_accuracy"].horizons == (1, 2, 3, 4)
    assert len(curves["imagined_psnr_db"].lines["copy_last_frame"]) == 4


def test_the_constant_grid_carries_no_bit_beyond_position() -> None:
    held_out, training = CodeStatistics(8, 2), CodeStatistics(8, 2)
    training.update(np.array([[1, 5], [1, 5], [2, 5]]))
    held_out.update(np.array([[0, 1], [2, 3], [4, 5]]))
    figures = {figure.name: figure for figure in codes_group(held_out, training, 1, "three grids").figures}
    assert figures["codes_perplexity"].estimate.value == pytest.approx(6)
    assert figures["codes_perplexity"].baselines["constant_grid"].value == pytest.approx(2)
    assert figures["codes_conditional_entropy_bits"].baselines["constant_grid"].value == 0
    assert figures["codes_used"].baselines["constant_grid"].value == 2


def test_each_imagined_picture_is_decoded_beside_the_one_before():
    """A decoder that adds its code to the frame that it is shown counts up."""
    seen = torch.full((2, 3, 1, 1), 100, dtype=torch.uint8)

    def add(codes: torch.Tensor, frame_t: torch.Tensor) -> torch.Tensor:
        return frame_t + codes.float()[:, None, None] / 127.5

    film = list(decoded_film(add, np.full((2, 4, 1), 5), seen))
    assert [int(picture[0, 0, 0, 0]) for picture in film] == [105, 110, 115, 120]
