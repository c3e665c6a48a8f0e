"""What one episode adds, on made RAM with known cells, distances, frozen steps and dots."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lapa_ray.dataset.reader import FrameDataset, StepTable
from lapa_ray.envs.entities import entities_of
from lapa_ray.envs.mazes import COLUMNS, NUM_CELLS
from lapa_ray.envs.ms_pacman import LAST_GHOST, PHASE, MsPacmanEntities
from lapa_ray.evaluation.data_quality_counts import Counts
from lapa_ray.evaluation.data_quality_tally import (
    PIECE_PICTURES,
    count_actions,
    frozen_steps,
    lives_lost,
    picture_hashes,
    tally_episode,
    tally_play,
)
from tests.support.made_ram import FRIGHTENED, made_ram, set_level
from tests.support.recordings import frames_artefact


def entities(ram: np.ndarray) -> MsPacmanEntities:
    read = entities_of("MsPacman").read(ram)
    assert isinstance(read, MsPacmanEntities)
    return read


def test_a_step_is_frozen_where_the_game_stands_still_from_its_begin_to_its_end() -> None:
    ram = made_ram(7, player=[5, 5, 6, 6, 200, 200, 201])
    ram[[0, 1, 3, 4], PHASE] = 0
    assert frozen_steps(entities(ram)).tolist() == [True, False, False, True, False, False]


def test_a_ghost_that_is_not_in_the_game_does_not_count() -> None:
    ram = made_ram(3, player=[5, 5, 6], sue=[1, 1, 2], blinky=[3, 4, 5])
    ram[:, LAST_GHOST] = 0
    ram[:2, PHASE] = 0
    play = tally_play(entities(ram))
    assert play is not None
    assert play.ghost_cells.keys.tolist() == [2]
    assert play.pair_steps.tolist() == [0] * 6
    assert play.nearest_steps == 1
    assert play.nearest_px == pytest.approx(4 * 8)


def test_only_steps_in_play_are_counted_each_by_where_it_ended() -> None:
    ram = made_ram(5, player=[5, 5, 6, 7, 7], sue=[0, 0, 1, 1, 1], inky=2, pinky=2, blinky=2)
    ram[[0, 1, 3, 4], PHASE] = 0
    play = tally_play(entities(ram))
    assert play is not None
    assert (play.num_steps, play.num_play_steps) == (4, 2)
    assert np.argwhere(play.player_cells).tolist() == [[0, 6], [0, 7]]
    assert (play.ghost_cells.keys.tolist(), play.ghost_cells.counts.tolist()) == ([1, 2], [2, 6])
    assert play.joint_cells.counts.tolist() == [2]


def test_joint_cells_tell_ghosts_apart() -> None:
    swapped = made_ram(3, player=[5, 6, 7], sue=[1, 1, 2], inky=[2, 2, 1], pinky=9, blinky=9)
    play = tally_play(entities(swapped))
    assert play is not None
    assert play.joint_cells.counts.tolist() == [1, 1]
    assert play.ghost_cells.counts.tolist() == [2, 2, 4]


def test_distances_are_straight_lines_in_pixels() -> None:
    far = 2 * COLUMNS + 3
    play = tally_play(entities(made_ram(2, player=[0, 1], sue=far, inky=0, pinky=0, blinky=0)))
    assert play is not None
    line = np.hypot(3 * 8, 2 * 12)
    assert play.pair_px.tolist() == pytest.approx([line, line, line, 0, 0, 0])
    assert play.pair_steps.tolist() == [1] * 6
    assert play.nearest_px == pytest.approx(8)


def test_frightened_steps_are_those_with_any_frightened_ghost() -> None:
    ram = made_ram(5, player=[1, 2, 3, 4, 5])
    ram[2, FRIGHTENED["pinky"]] = 0x80
    ram[3, [FRIGHTENED["sue"], FRIGHTENED["pinky"]]] = 0x80
    play = tally_play(entities(ram))
    assert play is not None
    assert (play.num_frightened_steps, play.num_play_steps) == (2, 4)


def test_dots_add_up_over_levels_and_mazes_are_kept_apart() -> None:
    ram = made_ram(7, player=[5, 6, 7, 8, 9, 8, 7])
    set_level(ram, slice(0, 4), level=0, maze=0, eaten=[0, 1, 1, 153])
    set_level(ram, slice(4, 7), level=2, maze=1, eaten=[0, 0, 2])
    play = tally_play(entities(ram))
    assert play is not None
    assert play.dots.tolist() == [0, 1, 1, 153, 153, 153, 155]
    assert play.level == 2
    assert play.player_cells.sum(axis=1).tolist() == [3, 3, 0, 0]


def test_dots_that_were_eaten_before_the_recording_are_not_counted() -> None:
    ram = made_ram(3, player=[5, 6, 7])
    set_level(ram, slice(0, 3), level=0, maze=0, eaten=[40, 41, 43])
    play = tally_play(entities(ram))
    assert play is not None
    assert play.dots.tolist() == [0, 1, 3]


def test_an_episode_of_intro_alone_has_no_step_in_play() -> None:
    ram = made_ram(4)
    ram[:, PHASE] = 0
    play = tally_play(entities(ram))
    assert play is not None
    assert (play.num_play_steps, play.player_cells.sum(), len(play.joint_cells.keys)) == (0, 0, 0)


def test_lives_won_do_not_make_up_for_lives_lost() -> None:
    assert lives_lost(np.array([3, 3, 2, 3, 3, 1, 0], dtype=np.int8)) == 4


def test_actions_are_counted_by_what_was_asked_and_what_ran() -> None:
    def column(*values: int) -> np.ndarray:
        return np.array(values, dtype=np.int8)

    nothing = np.zeros(4, dtype=bool)
    steps = StepTable(
        column(0, 1, 1, 2), column(0, 0, 1, 2), np.zeros(4, np.float32), column(3, 3, 3, 3, 3), None, nothing, nothing
    )
    assert count_actions(steps, 3).tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]


def test_counts_are_of_distinct_values() -> None:
    counts = Counts.of(np.array([[7, 3], [7, 7]]))
    assert (counts.keys.tolist(), counts.counts.tolist()) == ([3, 7], [1, 3])


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> FrameDataset:
    return frames_artefact(tmp_path_factory.mktemp("counter") / "frames", [PIECE_PICTURES + 3, 2], height=8)


def test_an_episode_of_an_unknown_game_has_what_needs_no_ram(counter: FrameDataset) -> None:
    tally = tally_episode(counter, 0, "max4", None)
    length = PIECE_PICTURES + 3
    assert (tally.num_steps, tally.policy, tally.has_ram, tally.play) == (length, "counter", True, None)
    assert tally.terminated
    assert tally.total_reward == length * (length + 1) / 2
    assert tally.actions is not None
    assert tally.actions.sum() == np.trace(tally.actions) == length
    assert tally.lives_lost == 0


def test_pictures_are_hashed_in_pieces_as_they_are_whole(counter: FrameDataset) -> None:
    pictures = counter.composites(0)
    hashes = picture_hashes(counter.decoder(), 0, len(pictures))
    _, number = np.unique(pictures[:, 0], axis=0, return_inverse=True)  # all that they tell is in their first row
    _, hashed = np.unique(hashes, return_inverse=True)
    assert len(set(zip(number.tolist(), hashed.tolist(), strict=True))) == number.max() + 1 == hashed.max() + 1


def test_what_an_import_does_not_know_is_not_counted(counter: FrameDataset) -> None:
    info = replace(counter.info, unknown=("action", "executed_action", "reward", "lives"))
    unknown = FrameDataset(counter.artefact, info, {0: counter.rows(0)})
    tally = tally_episode(unknown, 0, "last", None)
    assert (tally.total_reward, tally.lives_lost, tally.actions) == (None, None, None)
    assert tally.screens.counts.sum() == tally.num_steps + 1


def test_cells_fit_their_maze() -> None:
    ram = made_ram(2, player=[NUM_CELLS - 2, NUM_CELLS - 1])
    set_level(ram, slice(0, 2), level=0, maze=3, eaten=[0, 0])
    play = tally_play(entities(ram))
    assert play is not None
    assert np.argwhere(play.player_cells).tolist() == [[3, NUM_CELLS - 1]]
