"""Events: what RAM says happened in a step, by name: the truth that codes are asked about.

A step t leads from state t to state t+1; so does the pair of pictures, and so do the codes. Knows no codes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lapa_ray.envs.breakout import BreakoutEntities
from lapa_ray.envs.entities import Entities
from lapa_ray.envs.ms_pacman import MsPacmanEntities

Flags = NDArray[np.bool_]
MOST_STEP_PX = 32
"""Whoever is farther away after one step was set there: a tunnel, a new life."""


def events_of(entities: Entities) -> dict[str, Flags]:
    """Event to the steps in which it happened, bool [T], of entities of T+1 states; empty for an unknown game."""
    if isinstance(entities, MsPacmanEntities):
        return _ms_pacman(entities)
    if isinstance(entities, BreakoutEntities):
        return _breakout(entities)
    return {}


def possible_steps(entities: Entities) -> dict[str, Flags]:
    """Event, as `events_of` names them, to the steps in which it could happen, bool [T], of entities of T+1 states.

    Those that begin in play; what a ball does, only while there is one.
    """
    begun = in_play(entities)[:-1]
    steps = dict.fromkeys(events_of(entities), begun)
    if isinstance(entities, BreakoutEntities):
        steps |= dict.fromkeys(("bounce", "brick"), begun & entities.sprites["ball"].present[:-1])
    return steps


def in_play(entities: Entities) -> Flags:
    """States in which the player is there and the game is on, bool [T+1]."""
    there = entities.sprites["player"].present
    return there & entities.playing if isinstance(entities, MsPacmanEntities) else there


def player_moves(entities: Entities) -> tuple[NDArray[np.int64], Flags]:
    """Of each step how far the player went, right and down, int64 [T, 2], px, and whether it played, bool [T].

    A step at whose begin or end the game stood still, or in which the player was set elsewhere, is none.
    """
    player, playing = entities.sprites["player"], in_play(entities)
    places = np.stack([player.left, player.top], axis=-1).astype(np.int64)
    moved = np.diff(places, axis=0)
    known: Flags = playing[:-1] & playing[1:] & (np.abs(moved).max(axis=-1, initial=0) <= MOST_STEP_PX)
    return moved, known


def _ms_pacman(entities: MsPacmanEntities) -> dict[str, Flags]:
    moved, known = player_moves(entities)
    walked = known & (moved != 0).any(axis=-1)
    pill = _falls(entities.pills) & known
    heading = entities.sprites["player"].direction
    stopped = np.zeros_like(known)
    stopped[1:] = walked[:-1] & known[1:] & ~walked[1:]
    return {
        "dot eaten": _rises(entities.dots_eaten) & ~pill & known,
        "pill eaten": pill,
        "ghost eaten": _rises(entities.ghosts_eaten),
        "death": entities.dying[1:] & ~entities.dying[:-1],
        "turn": known & (heading[1:] != heading[:-1]),
        "wall stop": stopped,
    }


def _breakout(entities: BreakoutEntities) -> dict[str, Flags]:
    moved, known = player_moves(entities)
    ball = entities.sprites["ball"]
    flying = ball.present[:-1] & ball.present[1:]
    fallen = np.sign(np.diff(ball.top.astype(np.int64))) * flying
    bounced = np.zeros_like(known)
    bounced[1:] = _kept(fallen, flying)[:-1] * fallen[1:] < 0
    return {
        "paddle left": known & (moved[:, 0] < 0),
        "paddle right": known & (moved[:, 0] > 0),
        "bounce": bounced,
        "brick": _falls(entities.bricks.sum(axis=(-1, -2))),
    }


def _kept(signs: NDArray[np.int64], flying: Flags) -> NDArray[np.int64]:
    """Where a flying ball stands still, the last sign of its flight: it may have turned within the step."""
    told = (signs != 0) | ~flying
    last = np.maximum.accumulate(np.where(told, np.arange(len(signs)), 0))
    return signs[last]


def _rises(values: NDArray[np.integer]) -> Flags:
    return _compare(values, np.greater)


def _falls(values: NDArray[np.integer]) -> Flags:
    return _compare(values, np.less)


def _compare(values: NDArray[np.integer], how: Callable[..., NDArray[np.bool_]]) -> Flags:
    return how(np.diff(values.astype(np.int64)), 0)
