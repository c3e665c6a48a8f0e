"""Tallies: one recorded episode → what it adds to the figures of its dataset, small enough to keep for every episode.

What RAM tells is read by `envs.entities`; an episode without it, or of a game whose RAM nobody has read, has no
`PlayTally`. Pictures pass through in pieces, so the memory is bounded whatever the length of the episode.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.pictures import Composite
from lapa_ray.dataset.decoding import PictureDecoder
from lapa_ray.dataset.reader import FrameDataset, StepTable
from lapa_ray.envs.entities import EntityMap
from lapa_ray.envs.mazes import NUM_CELLS, NUM_MAZES, cell_of
from lapa_ray.envs.ms_pacman import GHOSTS, MsPacmanEntities
from lapa_ray.evaluation.data_quality_counts import Counts

PIECE_PICTURES = 256
PAIRS = tuple(combinations(GHOSTS, 2))
NO_CELL = NUM_CELLS
"""Where a ghost is that is not in the game."""
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class PlayTally:
    """What the RAM of an episode of T steps tells. Steps in play are those that are not frozen, see `frozen_steps`.

    num_steps T and how many of them are in play, num_play_steps. Of these: player_cells int64 [4, 252], by maze and
    cell where the player was at their end; ghost_cells of any ghost; joint_cells of all four at once; pair_px float64
    [6], distance of each of `PAIRS`, px, summed over the pair_steps int64 [6] in which both were there; nearest_px, the
    player's to the nearest ghost, px, summed over nearest_steps; num_frightened_steps, in which any ghost could be
    eaten. dots int64 [T+1]: eaten since the episode began. level: the highest, from 0.
    """

    num_steps: int
    num_play_steps: int
    player_cells: Integers
    ghost_cells: Counts
    joint_cells: Counts
    pair_px: NDArray[np.float64]
    pair_steps: Integers
    nearest_px: float
    nearest_steps: int
    num_frightened_steps: int
    dots: Integers
    level: int


@dataclass(frozen=True)
class EpisodeTally:
    """What one episode adds; None where the dataset does not know.

    terminated: whether the game ended it; screens: of the T+1 composites, by hash; num_still_steps: after which the
    composite is as before; actions int64 [A, A]: steps by action asked for and executed.
    """

    episode_id: int
    policy: str
    num_steps: int
    terminated: bool
    screens: Counts
    num_still_steps: int
    total_reward: float | None
    lives_lost: int | None
    actions: Integers | None
    has_ram: bool
    play: PlayTally | None


def tally_episode(
    dataset: FrameDataset, episode_id: int, composite: Composite, entity_map: EntityMap | None
) -> EpisodeTally:
    """Read one episode. `entity_map` is None where nobody knows what the RAM of this game means."""
    steps, unknown = dataset.steps(episode_id), dataset.info.unknown
    hashes = picture_hashes(dataset.decoder(composite), episode_id, len(steps.actions) + 1)
    knows_actions = not {"action", "executed_action"} & set(unknown)
    return EpisodeTally(
        episode_id=episode_id,
        policy=dataset.policy(episode_id),
        num_steps=len(steps.actions),
        terminated=bool(steps.terminated.any()),
        screens=Counts.of(hashes),
        num_still_steps=int((hashes[1:] == hashes[:-1]).sum()),
        total_reward=None if "reward" in unknown else dataset.episode_return(episode_id),
        lives_lost=None if "lives" in unknown else lives_lost(steps.lives),
        actions=count_actions(steps, len(dataset.info.action_meanings)) if knows_actions else None,
        has_ram=steps.ram is not None,
        play=None if entity_map is None or steps.ram is None else tally_play(entity_map.read(steps.ram)),
    )


def picture_hashes(decoder: PictureDecoder, episode_id: int, num_pictures: int) -> NDArray[np.uint64]:
    """64 bits of BLAKE2 of each composite, uint64 [num_pictures]: of a million, two meet by chance in 1 of 10⁷ sets."""
    return np.fromiter(_hashes(decoder, episode_id, num_pictures), dtype=np.uint64, count=num_pictures)


def _hashes(decoder: PictureDecoder, episode_id: int, num_pictures: int) -> Iterator[int]:
    pictures = np.empty((min(PIECE_PICTURES, num_pictures), *decoder.picture_shape), dtype=np.uint8)
    for first in range(0, num_pictures, PIECE_PICTURES):
        piece = pictures[: num_pictures - first]
        decoder.decode(episode_id, first, piece)
        for picture in piece:
            yield int.from_bytes(blake2b(picture, digest_size=8).digest())


def lives_lost(lives: NDArray[np.int8]) -> int:
    """Lives lost in an episode, from the lives left [T+1]; lives won do not make up for them."""
    return int(np.maximum(-np.diff(lives.astype(np.int64)), 0).sum())


def count_actions(steps: StepTable, num_actions: int) -> Integers:
    """Steps by action asked for (rows) and executed (columns), int64 [A, A]."""
    table = np.zeros((num_actions, num_actions), dtype=np.int64)
    np.add.at(table, (steps.actions, steps.executed_actions), 1)
    return table


def frozen_steps(entities: MsPacmanEntities) -> NDArray[np.bool_]:
    """Which steps are frozen, bool [T]: the game stands still from begin to end, so no control has an effect.

    So are the intro, the player's death and the wait after it, the end of a level and the moment in which a ghost is
    eaten. Nobody walks in them; after a death all are set back to where they start.
    """
    frozen: NDArray[np.bool_] = ~(entities.playing[:-1] | entities.playing[1:])
    return frozen


def tally_play(entities: object) -> PlayTally | None:
    """What the entities of an episode's states [T+1] tell; None if they are of another game than Ms. Pac-Man."""
    if not isinstance(entities, MsPacmanEntities):
        return None
    frozen = frozen_steps(entities)
    states = np.flatnonzero(~frozen) + 1
    cells = {name: _cells(entities, name, states) for name in ("player", *GHOSTS)}
    ghosts = np.stack([cells[name] for name in GHOSTS], axis=-1)
    pair_px, pair_steps = _pair_distances(entities, states)
    nearest = _nearest_ghost(entities, states)
    return PlayTally(
        num_steps=len(frozen),
        num_play_steps=len(states),
        player_cells=np.bincount(
            entities.maze[states].astype(np.int64) * NUM_CELLS + cells["player"], minlength=NUM_MAZES * NUM_CELLS
        ).reshape(NUM_MAZES, NUM_CELLS),
        ghost_cells=Counts.of(ghosts[ghosts != NO_CELL]),
        joint_cells=Counts.of(ghosts @ (NO_CELL + 1) ** np.arange(len(GHOSTS))),
        pair_px=pair_px,
        pair_steps=pair_steps,
        nearest_px=float(nearest.sum()),
        nearest_steps=len(nearest),
        num_frightened_steps=int(entities.frightened[states].any(axis=-1).sum()),
        dots=np.cumsum(np.maximum(np.diff(entities.dots_eaten.astype(np.int64), prepend=entities.dots_eaten[0]), 0)),
        level=int(entities.level.max()),
    )


def _cells(entities: MsPacmanEntities, name: str, states: Integers) -> Integers:
    cells = cell_of(entities.x[name][states], entities.y[name][states])
    return np.where(entities.sprites[name].present[states], cells, NO_CELL)


def _pair_distances(entities: MsPacmanEntities, states: Integers) -> tuple[NDArray[np.float64], Integers]:
    sums, counts = np.zeros(len(PAIRS)), np.zeros(len(PAIRS), dtype=np.int64)
    for index, (one, other) in enumerate(PAIRS):
        both = entities.sprites[one].present[states] & entities.sprites[other].present[states]
        sums[index] = _distance(entities, one, other, states[both]).sum()
        counts[index] = both.sum()
    return sums, counts


def _nearest_ghost(entities: MsPacmanEntities, states: Integers) -> NDArray[np.float64]:
    """The player's distance to the nearest ghost, px, in those of `states` in which there is one."""
    distances = np.stack(
        [
            np.where(entities.sprites[ghost].present[states], _distance(entities, "player", ghost, states), np.inf)
            for ghost in GHOSTS
        ]
    )
    nearest = distances.min(axis=0)
    return nearest[np.isfinite(nearest)]


def _distance(entities: MsPacmanEntities, one: str, other: str, states: Integers) -> NDArray[np.float64]:
    across = entities.x[one][states].astype(np.float64) - entities.x[other][states]
    down = entities.y[one][states].astype(np.float64) - entities.y[other][states]
    return np.hypot(across, down)
