"""Every figure of a dataset, on made episodes whose figures can be told by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lapa_ray.envs.entities import entities_of
from lapa_ray.envs.mazes import maze_of
from lapa_ray.envs.ms_pacman import PHASE
from lapa_ray.evaluation.data_quality_counts import Counts
from lapa_ray.evaluation.data_quality_measures import DRAWN, MEASURES, measure
from lapa_ray.evaluation.data_quality_tally import EpisodeTally, tally_play
from tests.support.made_ram import FRIGHTENED, made_ram, set_level

FLOOR = [int(cell) for cell in np.flatnonzero(maze_of(0).floor)]


def tally(
    episode_id: int, cells: list[int], *, ghosts: list[int] | None = None, policy: str = "random", score: float = 100
) -> EpisodeTally:
    """The player is in `cells`; where it stays, the game stands still. Screens are told apart by the cell."""
    ram = made_ram(len(cells), player=cells, sue=ghosts or 0)
    still = np.diff(cells) == 0
    ram[np.r_[still, False] | np.r_[False, still], PHASE] = 0
    actions = np.zeros((2, 2), dtype=np.int64)
    actions[0, 0], actions[1, 0], actions[1, 1] = 1, 1, len(cells) - 3
    return EpisodeTally(
        episode_id=episode_id,
        policy=policy,
        num_steps=len(cells) - 1,
        terminated=episode_id < 2,
        screens=Counts.of(np.array(cells)),
        num_still_steps=int((np.diff(cells) == 0).sum()),
        total_reward=score,
        lives_lost=1,
        actions=actions,
        has_ram=True,
        play=tally_play(entities_of("MsPacman").read(ram)),
    )


@pytest.fixture
def tallies() -> list[EpisodeTally]:
    a, b, c, d = FLOOR[:4]
    return [
        tally(0, [a, a, b, c], score=100),
        tally(1, [a, a, b, c, c], score=200),
        tally(2, [a, b, c, d, d], ghosts=[0, 1, 1, 1, 1], score=600),
    ]


def values(tallies: list[EpisodeTally]) -> dict[str, float | None]:
    return {name: estimate.value for name, estimate in measure(tallies, seed=0)[0].items()}


def test_episodes_and_pictures(tallies: list[EpisodeTally]) -> None:
    found = values(tallies)
    assert found["return_mean"] == 300
    assert found["length_mean_steps"] == pytest.approx(11 / 3)
    assert found["terminated_share"] == pytest.approx(2 / 3)
    assert found["lives_lost_mean"] == 1
    assert found["lives_lost_per_1000_steps"] == pytest.approx(1000 * 3 / 11)
    assert found["distinct_screens"] == 4
    assert found["distinct_screens_share"] == pytest.approx(4 / 14)
    assert found["still_share"] == pytest.approx(4 / 11)


def test_actions(tallies: list[EpisodeTally]) -> None:
    found, notes = values(tallies), measure(tallies, 0)[1]
    asked = np.array([3, 8]) / 11
    assert found["action_entropy_bits"] == pytest.approx(-(asked * np.log2(asked)).sum())
    assert found["as_asked_share"] == pytest.approx(8 / 11)
    assert notes["action_entropy_bits"] == "at most 1.00, all 2 equally often"


def test_play(tallies: list[EpisodeTally]) -> None:
    found, notes = values(tallies), measure(tallies, 0)[1]
    assert found["frozen_share"] == pytest.approx(4 / 11)
    assert found["player_cells_mean"] == pytest.approx((2 + 2 + 3) / 3)
    assert found["player_cells_share"] == pytest.approx(3 / len(FLOOR))
    assert notes["player_cells_share"] == f"of {len(FLOOR)} cells in 1 of 4 mazes"
    # Sue is in cell 1 in the three steps in play of the last episode; the others are in cell 0 all the time.
    shares = np.array([3, 25]) / 28
    assert found["ghost_cell_entropy_bits"] == pytest.approx(-(shares * np.log2(shares)).sum())
    joint = np.array([3, 4]) / 7
    assert found["ghost_joint_entropy_bits"] == pytest.approx(-(joint * np.log2(joint)).sum())
    assert notes["ghost_joint_entropy_bits"] == "at most 2.81, log2 of 7 steps in play"
    assert found["ghost_distance_sue_inky_px"] == pytest.approx(8 * 3 / 7)
    assert found["ghost_distance_inky_pinky_px"] == 0
    assert found["ghost_distance_px"] == pytest.approx(8 * 3 * 3 / 42)
    assert found["frightened_share"] == 0
    assert found["level_mean"] == 1
    assert found["second_maze_share"] == 0


def test_levels_and_mazes() -> None:
    ram = made_ram(4, player=FLOOR[:4])
    set_level(ram, slice(0, 2), level=0, maze=0, eaten=[0, 1])
    set_level(ram, slice(2, 4), level=7, maze=1, eaten=[0, 1])
    ram[:, FRIGHTENED["sue"]] = 0x80
    far = replace(tally(1, FLOOR[:4]), play=tally_play(entities_of("MsPacman").read(ram)))
    found, notes = measure([tally(0, FLOOR[:4]), far], 0)
    assert found["level_mean"].value == pytest.approx((1 + 8) / 2)
    assert notes["level_mean"] == "RAM does not tell the eighth level from later ones, to which 1 episode got"
    assert found["second_maze_share"].value == pytest.approx(0.5)
    assert found["dots_eaten_mean"].value == pytest.approx(1)
    assert found["frightened_share"].value == pytest.approx(0.5)


def test_estimates_tell_their_episodes_and_have_no_interval_below_three(tallies: list[EpisodeTally]) -> None:
    for name, estimate in measure(tallies, 0)[0].items():
        assert estimate.num_episodes == 3, name
        assert estimate.low is not None, name
        assert estimate.low <= estimate.value <= estimate.high, name
    for name, estimate in measure(tallies[:2], 0)[0].items():
        assert (estimate.num_episodes, estimate.low, estimate.high) == (2, None, None), name


def test_too_few_to_draw_from_is_said_and_enough_are_drawn(tallies: list[EpisodeTally]) -> None:
    found, notes = measure(tallies, 0)
    assert "distinct_screens_drawn" not in found
    assert notes["distinct_screens_drawn"] == "there are 14 screens, fewer than 1,000"
    assert notes["ghost_configurations_drawn"] == "there are 7 steps in play, fewer than 1,000"
    long = [tally(number, FLOOR[:2] * DRAWN) for number in range(3)]
    found, notes = measure(long, 0)
    assert found["distinct_screens_drawn"].value == pytest.approx(2)
    assert "distinct_screens_drawn" not in notes


@pytest.mark.parametrize("field", ["total_reward", "lives_lost", "actions", "play"])
def test_what_one_episode_does_not_know_is_not_measured(tallies: list[EpisodeTally], field: str) -> None:
    tallies[1] = replace(tallies[1], **{field: None})
    found = measure(tallies, 0)[0]
    needing = {entry.figure.name for entry in MEASURES if entry.needs == field}
    assert needing
    assert not needing & set(found)
    assert "length_mean_steps" in found


def test_figures_have_names_of_their_own_and_are_explained() -> None:
    names = [entry.figure.name for entry in MEASURES]
    assert len(set(names)) == len(names)
    assert all(entry.figure.meaning.endswith(".") for entry in MEASURES)


def test_an_episode_that_never_leaves_the_intro_measures_no_play() -> None:
    found = measure([tally(number, [FLOOR[0]] * 4) for number in range(3)], 0)[0]
    assert found["frozen_share"].value == 1
    assert not {"player_cells_share", "ghost_joint_entropy_bits", "nearest_ghost_px", "frightened_share"} & set(found)
