"""Walks: where the player is in an episode and how it moves, from RAM truth, as code swaps and probes ask for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.envs.entities import Entities
from lapa_ray.evaluation.controllability import Boxes
from lapa_ray.evaluation.data_quality_datasets import entity_map_of
from lapa_ray.evaluation.events import in_play, player_moves
from lapa_ray.evaluation.rollouts import spread


@dataclass(frozen=True)
class Walk:
    """Of one episode where the player is, and its moves int64 [T, 2] with whether they are known, bool [T]."""

    boxes: Boxes
    moved: NDArray[np.int64]
    known: NDArray[np.bool_]

    @classmethod
    def of(cls, entities: Entities) -> Self:
        """The player's among `entities` of T+1 states."""
        player = entities.sprites["player"]
        moved, known = player_moves(entities)
        left, top = player.left.astype(np.int64), player.top.astype(np.int64)
        return cls(Boxes(left, top, in_play(entities), player.width, player.height), moved, known)


def entities_in(frames: FrameDataset, episode_id: int) -> Entities | None:
    """What RAM tells of an episode; None where it is not recorded, or nobody has read this game's."""
    entity_map, ram = entity_map_of(frames.info.game), frames.steps(episode_id).ram
    return None if entity_map is None or ram is None else entity_map.read(ram)


def walks_in(dataset: FrameDataset, episodes: Sequence[int]) -> dict[int, Walk]:
    """Where the player is in those of the episodes that tell."""
    read = {episode: entities_in(dataset, episode) for episode in episodes}
    return {episode: Walk.of(entities) for episode, entities in read.items() if entities is not None}


def known_steps(walks: Mapping[int, Walk], limit: int) -> dict[int, NDArray[np.int64]]:
    """At most `limit` steps in which the player plays, evenly spaced over the episodes."""
    known = {episode: np.flatnonzero(walk.known) for episode, walk in walks.items()}
    chosen = spread({episode: len(steps) for episode, steps in known.items()}, limit) if known else {}
    return {episode: known[episode][part] for episode, part in chosen.items()}
