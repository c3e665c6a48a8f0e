"""Splits by episode: nested thresholds on one hash of the episode id, so that adding episodes moves no old one."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from lapa_ray.core.errors import LapaError

Split = Literal["90/10", "80/20", "80/10/10"]
"""Shares of the episodes in per cent: training, validation and, where there is a third, test."""


class Parts(NamedTuple):
    """Episode ids, each list ascending. The validation part chooses the best checkpoint; the test part, empty if there
    is none, has no part in anything.
    """

    training: list[int]
    validation: list[int]
    test: list[int]


def named_parts(episode_ids: Iterable[int], split: Split, name: str = "the dataset") -> Parts:
    """The parts of `split`, see `split_parts`; the test part of 80/10/10 is what 90/10 and 80/20 hold out, or of it."""
    shares = [int(share) / 100 for share in split.split("/")]
    training, validation, *test = split_parts(episode_ids, shares, name)
    return Parts(training, validation, test[0] if test else [])


def split_parts(
    episode_ids: Iterable[int], fractions: Sequence[float], name: str = "the dataset"
) -> tuple[list[int], ...]:
    """Ids in as many parts as there are `fractions`, which add up to 1; each part ascending and not empty.

    The parts lie along [0, 1) from its end: of 0.8, 0.1, 0.1 the last is below 0.1 and the second below 0.2, so the
    last is what 0.9, 0.1 hold out, and the last two together what 0.8, 0.2 do. A part that would be empty takes the
    episode nearest to it. Raises `LapaError`, which names the dataset, if there are fewer episodes than parts,
    and `ValueError` for other fractions.
    """
    if not fractions or min(fractions) <= 0 or not math.isclose(sum(fractions), 1):
        raise ValueError(f"fractions {tuple(fractions)}: should be positive and add up to 1")
    ranked = sorted(set(episode_ids), key=position)
    if len(ranked) < len(fractions):
        raise LapaError(
            f"{name} has {len(ranked)} episode{'' if len(ranked) == 1 else 's'}; a split by episode needs at "
            f"least {len(fractions)}: record more (record --num_episodes)."
        )
    bounds = [0, *_bounds(ranked, list(fractions)), len(ranked)]
    parts = [sorted(ranked[start:stop]) for start, stop in pairwise(bounds)]
    return tuple(reversed(parts))


def split_episodes(
    episode_ids: Iterable[int], held_out: float, name: str = "the dataset"
) -> tuple[list[int], list[int]]:
    """Train and held-out ids, each ascending and not empty: `split_parts` of 1 − `held_out`, `held_out`."""
    train, held = split_parts(episode_ids, (1 - held_out, held_out), name)
    return train, held


def position(episode_id: int) -> float:
    """Where the episode stands in [0, 1): uniform over ids, the same for ever."""
    return int.from_bytes(hashlib.blake2b(str(episode_id).encode(), digest_size=8).digest()) / 2**64


def _bounds(ranked: list[int], fractions: list[float]) -> list[int]:
    """How many episodes lie below each threshold, ascending; every part between them has one at least."""
    bounds: list[int] = []
    for parts_below in range(1, len(fractions)):
        threshold = math.fsum(fractions[-parts_below:])
        count = sum(position(episode) < threshold for episode in ranked)
        parts_above = len(fractions) - parts_below
        bounds.append(min(max(count, bounds[-1] + 1 if bounds else 1), len(ranked) - parts_above))
    return bounds
