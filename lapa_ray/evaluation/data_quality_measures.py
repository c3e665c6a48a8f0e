"""Measures: the tallies of a dataset's episodes → every figure of it, with its interval over episodes.

One entry a figure in `MEASURES`: what it is called, how it is counted in words, and the function that counts it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from lapa_ray.envs.mazes import NUM_MAZES, all_floors
from lapa_ray.envs.ms_pacman import LAST_TOLD_LEVEL
from lapa_ray.evaluation import data_quality_counts as counting
from lapa_ray.evaluation.data_quality import DataFigure
from lapa_ray.evaluation.data_quality_counts import Counts
from lapa_ray.evaluation.data_quality_tally import PAIRS, EpisodeTally, PlayTally
from lapa_ray.evaluation.estimates import Estimate, PooledRatio

DRAWN = 1000
"""Occurrences drawn at random where datasets of different sizes are compared."""
Tallies: TypeAlias = Sequence[EpisodeTally]
Estimator: TypeAlias = Callable[[Tallies, int], Estimate]
Need: TypeAlias = Literal["", "total_reward", "lives_lost", "actions", "play"]


@dataclass(frozen=True)
class Measure:
    """One figure and how it is counted. `needs` names what every `EpisodeTally` must have for it."""

    figure: DataFigure
    needs: Need
    estimate: Estimator
    note: Callable[[Tallies], str] = lambda _tallies: ""
    """What has to be known to read the figure of these tallies."""


def measure(tallies: Tallies, seed: int) -> tuple[dict[str, Estimate], dict[str, str]]:
    """Estimates and notes by name of the figure, for the figures whose needs all `tallies` fulfil."""
    estimates, notes = {}, {}
    for entry in MEASURES:
        if entry.needs and any(getattr(tally, entry.needs) is None for tally in tallies):
            continue
        estimate = entry.estimate(tallies, seed)
        if estimate.value is not None:
            estimates[entry.figure.name] = estimate
        if note := entry.note(tallies):
            notes[entry.figure.name] = note
    return estimates, notes


def floor_steps(play: PlayTally) -> Counts:
    """Steps in play in each cell of floor that the player was in; the key of a cell tells its maze too."""
    steps = np.where(all_floors().reshape(play.player_cells.shape), play.player_cells, 0).ravel()
    visited = np.flatnonzero(steps)
    return Counts(visited.astype(np.uint64), steps[visited])


def mazes_entered(tallies: Tallies) -> list[int]:
    """The mazes, of four, in which there was any step in play."""
    entered = np.any([_play(tally).player_cells.any(axis=1) for tally in tallies], axis=0)
    return [int(maze) for maze in np.flatnonzero(entered)]


def _play(tally: EpisodeTally) -> PlayTally:
    assert tally.play is not None
    return tally.play


def _table(tally: EpisodeTally) -> np.ndarray:
    assert tally.actions is not None
    return tally.actions


def _asked(tally: EpisodeTally) -> Counts:
    steps = _table(tally).sum(axis=1)
    return Counts(np.flatnonzero(steps).astype(np.uint64), steps[steps > 0])


def _ratio(part: Callable[[EpisodeTally], tuple[float, float]]) -> Estimator:
    """A ratio of sums, of which `part` gives those of an episode."""

    def estimate(tallies: Tallies, seed: int) -> Estimate:
        ratio = PooledRatio()
        for tally in tallies:
            ratio.add(tally.episode_id, *part(tally))
        return ratio.estimate(seed=seed)

    return estimate


def _of_play(part: Callable[[PlayTally], tuple[float, float]]) -> Estimator:
    return _ratio(lambda tally: part(_play(tally)))


def _occurring(
    counts: Callable[[EpisodeTally], Counts], statistic: counting.Statistic, most: float = math.inf
) -> Estimator:
    return lambda tallies, _seed: counting.estimate([counts(tally) for tally in tallies], statistic, most)


def _floor_share(tallies: Tallies, _seed: int) -> Estimate:
    floor = int(all_floors()[mazes_entered(tallies)].sum())
    if floor == 0:
        return Estimate(value=None, num_episodes=len(tallies), num_samples=0)
    share = lambda histogram: counting.distinct(histogram) / floor  # noqa: E731
    return counting.estimate([floor_steps(_play(tally)) for tally in tallies], share, most=1)


def _pair_distance(index: int) -> Estimator:
    return _of_play(lambda play: (float(play.pair_px[index]), float(play.pair_steps[index])))


def _log2_note(number: Callable[[EpisodeTally], int], what: str) -> Callable[[Tallies], str]:
    def note(tallies: Tallies) -> str:
        total = sum(number(tally) for tally in tallies)
        return f"at most {math.log2(total):.2f}, log2 of {total:,} {what}" if total else ""

    return note


def _too_few_note(number: Callable[[EpisodeTally], int], what: str) -> Callable[[Tallies], str]:
    def note(tallies: Tallies) -> str:
        total = sum(number(tally) for tally in tallies)
        return f"there are {total:,} {what}, fewer than {DRAWN:,}" if total < DRAWN else ""

    return note


def _actions_note(tallies: Tallies) -> str:
    number = len(_table(tallies[0]))
    return f"at most {math.log2(number):.2f}, all {number} equally often"


def _floor_note(tallies: Tallies) -> str:
    mazes = mazes_entered(tallies)
    return f"of {int(all_floors()[mazes].sum())} cells in {len(mazes)} of {NUM_MAZES} mazes"


def _levels_note(tallies: Tallies) -> str:
    late = sum(_play(tally).level >= LAST_TOLD_LEVEL for tally in tallies)
    episodes = "1 episode" if late == 1 else f"{late} episodes"
    return f"RAM does not tell the eighth level from later ones, to which {episodes} got" if late else ""


def _figure(group: str, name: str, label: str, unit: str, meaning: str) -> DataFigure:
    return DataFigure(name=name, group=group, label=label, unit=unit, meaning=meaning)


EPISODES = (
    Measure(
        _figure("episodes", "return_mean", "Return", "points", "Raw score of an episode, mean of the episodes."),
        "total_reward",
        _ratio(lambda tally: (tally.total_reward or 0.0, 1)),
    ),
    Measure(
        _figure("episodes", "length_mean_steps", "Length", "steps", "Agent steps of an episode, mean of the episodes."),
        "",
        _ratio(lambda tally: (tally.num_steps, 1)),
    ),
    Measure(
        _figure(
            "episodes", "terminated_share", "Episodes to the end of the game", "%",
            "The others were cut off: their return and length are less than the game would have had.",
        ),
        "",
        _ratio(lambda tally: (tally.terminated, 1)),
    ),
    Measure(
        _figure("episodes", "lives_lost_mean", "Lives lost", "lives", "In an episode, mean of the episodes."),
        "lives_lost",
        _ratio(lambda tally: (tally.lives_lost or 0, 1)),
    ),
    Measure(
        _figure(
            "episodes", "lives_lost_per_1000_steps", "Lives lost in 1,000 steps", "lives",
            "Lives lost over all steps.",
        ),
        "lives_lost",
        _ratio(lambda tally: (1000 * (tally.lives_lost or 0), tally.num_steps)),
    ),
)  # fmt: skip

PICTURES = (
    Measure(
        _figure(
            "pictures", "distinct_screens", "Distinct screens", "screens",
            "Composites that differ in any pixel, told apart by a hash of 64 bits. It grows with the dataset.",
        ),
        "",
        _occurring(lambda tally: tally.screens, counting.distinct),
    ),
    Measure(
        _figure(
            "pictures", "distinct_screens_share", "Distinct screens, share of all", "%",
            "Distinct screens over all screens. It sinks as the dataset grows.",
        ),
        "",
        _occurring(lambda tally: tally.screens, counting.distinct_share, most=1),
    ),
    Measure(
        _figure(
            "pictures", "distinct_screens_drawn", f"Distinct screens among {DRAWN:,}", "screens",
            f"Expected among {DRAWN:,} screens drawn at random from the dataset: to be compared whatever the sizes.",
        ),
        "",
        _occurring(lambda tally: tally.screens, counting.distinct_among(DRAWN), most=DRAWN),
        _too_few_note(lambda tally: tally.num_steps + 1, "screens"),
    ),
    Measure(
        _figure(
            "pictures", "still_share", "Steps without a change", "%",
            "Share of the steps after which the screen is as it was before.",
        ),
        "",
        _ratio(lambda tally: (tally.num_still_steps, tally.num_steps)),
    ),
)  # fmt: skip

ACTIONS = (
    Measure(
        _figure(
            "actions", "action_entropy_bits", "Entropy of the actions", "bits",
            "Of the actions asked for, by their shares of all steps.",
        ),
        "actions",
        _occurring(_asked, counting.entropy_bits),
        _actions_note,
    ),
    Measure(
        _figure(
            "actions", "as_asked_share", "Steps that ran the action asked for", "%",
            "A step's executed action is the one that the emulator ran on most of its frames, the earliest of equals.",
        ),
        "actions",
        _ratio(lambda tally: (float(np.trace(_table(tally))), float(_table(tally).sum()))),
    ),
)  # fmt: skip

PLAY = (
    Measure(
        _figure(
            "play", "frozen_share", "Frozen steps", "%",
            "Share of the steps in which the game stands still from begin to end, so that nobody walks and no control "
            "has an effect: intro, death and the wait after it, the end of a level, a ghost being eaten. All others "
            "are steps in play.",
        ),
        "play",
        _of_play(lambda play: (play.num_steps - play.num_play_steps, play.num_steps)),
    ),
    Measure(
        _figure(
            "play", "player_cells_mean", "Cells visited in an episode", "cells",
            "Cells of the maze's floor that the player was in, of all its mazes, mean of the episodes.",
        ),
        "play",
        _of_play(lambda play: (len(floor_steps(play).keys), 1)),
    ),
    Measure(
        _figure(
            "play", "player_cells_share", "Cells visited in any episode", "%",
            "Share of the floor of all mazes that were entered.",
        ),
        "play",
        _floor_share,
        _floor_note,
    ),
    Measure(
        _figure(
            "play", "ghost_cell_entropy_bits", "Entropy of a ghost's cell", "bits",
            "Of the cells that ghosts are in, all ghosts together, over the steps in play.",
        ),
        "play",
        _occurring(lambda tally: _play(tally).ghost_cells, counting.entropy_bits),
    ),
    Measure(
        _figure(
            "play", "ghost_joint_entropy_bits", "Entropy of the ghosts' joint cells", "bits",
            "Of the cells of all four at once, over the steps in play. Its bound grows with the dataset.",
        ),
        "play",
        _occurring(lambda tally: _play(tally).joint_cells, counting.entropy_bits),
        _log2_note(lambda tally: _play(tally).num_play_steps, "steps in play"),
    ),
    Measure(
        _figure(
            "play", "ghost_configurations_drawn", f"Ghost configurations among {DRAWN:,}", "configurations",
            f"Distinct joint cells expected among {DRAWN:,} steps in play drawn at random: to be compared whatever the "
            "sizes.",
        ),
        "play",
        _occurring(lambda tally: _play(tally).joint_cells, counting.distinct_among(DRAWN), most=DRAWN),
        _too_few_note(lambda tally: _play(tally).num_play_steps, "steps in play"),
    ),
    Measure(
        _figure(
            "play", "ghost_distance_px", "Distance between ghosts", "px",
            "Straight line between two ghosts, mean of all pairs and steps in play.",
        ),
        "play",
        _of_play(lambda play: (float(play.pair_px.sum()), float(play.pair_steps.sum()))),
    ),
    *(
        Measure(
            _figure(
                "play", f"ghost_distance_{one}_{other}_px", f"{one.capitalize()} to {other.capitalize()}", "px",
                f"Straight line between {one.capitalize()} and {other.capitalize()}, mean of the steps in play.",
            ),
            "play",
            _pair_distance(index),
        )
        for index, (one, other) in enumerate(PAIRS)
    ),
    Measure(
        _figure(
            "play", "nearest_ghost_px", "The player to the nearest ghost", "px",
            "Straight line, mean of the steps in play.",
        ),
        "play",
        _of_play(lambda play: (play.nearest_px, play.nearest_steps)),
    ),
    Measure(
        _figure(
            "play", "frightened_share", "Steps with frightened ghosts", "%",
            "Share of the steps in play in which any ghost can be eaten.",
        ),
        "play",
        _of_play(lambda play: (play.num_frightened_steps, play.num_play_steps)),
    ),
    Measure(
        _figure("play", "dots_eaten_mean", "Dots eaten", "dots", "In an episode, pills too, mean of the episodes."),
        "play",
        _of_play(lambda play: (int(play.dots[-1]), 1)),
    ),
    Measure(
        _figure("play", "level_mean", "Level reached", "", "The highest of an episode, from 1, mean of the episodes."),
        "play",
        _of_play(lambda play: (play.level + 1, 1)),
        _levels_note,
    ),
    Measure(
        _figure(
            "play", "second_maze_share", "Episodes that saw a second maze", "%",
            "The second maze starts at the third level.",
        ),
        "play",
        _of_play(lambda play: (bool(play.player_cells.any(axis=1).sum() > 1), 1)),
    ),
)  # fmt: skip

MEASURES = (*EPISODES, *PICTURES, *ACTIONS, *PLAY)
