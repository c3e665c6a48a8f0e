"""How often each training pair is drawn: all alike, or so that rare kinds of pairs come as often as common ones.

Without it most pairs are of the first maze, between two dots, with little that moves; and many show a game that waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.errors import LapaError
from lapa_ray.core.pictures import Screen, changed
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.envs.entities import entities_of
from lapa_ray.envs.ms_pacman import MsPacmanEntities
from lapa_ray.evaluation.data_quality_tally import frozen_steps

Balance = Literal["none", "motion", "dots", "mazes"]


def pair_chances(
    dataset: FrameDataset,
    episode_ids: Sequence[int],
    composites: Screen,
    balance: Balance,
    *,
    leave_out_frozen: bool,
) -> NDArray[np.float64]:
    """Chance of each pair to be drawn, float64 [pairs], which sum to 1; pairs are in the order of `episode_ids`.

    `composites` [T+1, height, width] of one episode after the other. Raises `LapaError` where RAM is needed and
    there is none, or is of a game whose RAM is not read that far; or if no pair is left.
    """
    kinds, kept = [], []
    ends = np.cumsum([dataset.num_steps(episode_id) + 1 for episode_id in episode_ids])
    for episode_id, pictures in zip(episode_ids, np.split(composites, ends[:-1]), strict=True):
        num_pairs = len(pictures) - 1
        entities = None
        if balance in {"dots", "mazes"} or leave_out_frozen:
            entities = _entities(dataset, episode_id)
        kept.append(~frozen_steps(entities) if entities and leave_out_frozen else np.ones(num_pairs, dtype=np.bool_))
        kinds.append(_kinds(balance, pictures, dataset.info.palette, entities))
    if not any(part.any() for part in kept):
        raise LapaError(
            f"{dataset.name}: every pair is frozen of the {len(episode_ids)} training episodes that a worker has, from "
            f"episode {episode_ids[0]} on; leave out --pairs.leave_out_frozen, take fewer --resources.num_workers, or "
            "record real play."
        )
    return _chances(np.concatenate(kinds), np.concatenate(kept))


def _kinds(
    balance: Balance, pictures: Screen, palette: NDArray[np.uint8], entities: MsPacmanEntities | None
) -> NDArray[np.int64]:
    """The kind of each pair of an episode, int64 [T]."""
    if balance == "motion":  # by powers of two of the changed pixels
        counts = [np.count_nonzero(changed(before, after, palette)) for before, after in pairwise(pictures)]
        return np.log2(1.0 + np.array(counts, dtype=np.float64)).astype(np.int64)
    if balance == "dots" and entities is not None:
        return (np.diff(entities.dots_eaten.astype(np.int64)) > 0).astype(np.int64)
    if balance == "mazes" and entities is not None:
        return entities.maze[:-1].astype(np.int64)
    return np.zeros(len(pictures) - 1, dtype=np.int64)


def _chances(kinds: NDArray[np.int64], kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    _, which, counts = np.unique(kinds[kept], return_inverse=True, return_counts=True)
    chances = np.zeros(len(kinds))
    chances[kept] = 1.0 / (len(counts) * counts[which])
    return chances


def _entities(dataset: FrameDataset, episode_id: int) -> MsPacmanEntities:
    ram = dataset.steps(episode_id).ram
    if ram is None:
        raise LapaError(
            f"{dataset.name}: has no RAM, which --pairs.balance dots or mazes and --pairs.leave_out_frozen look at."
        )
    read = entities_of(dataset.info.game).read(ram)
    if not isinstance(read, MsPacmanEntities):
        raise LapaError(
            f"{dataset.name}: --pairs.balance dots or mazes and leave_out_frozen know Ms. Pac-Man alone, not "
            f"{dataset.info.game}."
        )
    return read
