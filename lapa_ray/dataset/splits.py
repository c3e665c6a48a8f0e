"""Splits by episode: nested thresholds on one hash of the episode id, so that adding episodes moves no old one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from lapa_ray.core.errors import LapaError


def split_episodes(episode_ids: Iterable[int], held_out: float) -> tuple[list[int], list[int]]:
    """Train and held-out ids, each ascending and not empty.

    The held-out 10 % lie inside the held-out 20 %. A part that would be empty takes the episode nearest to it.
    Raises `LapaError` below two episodes.
    """
    ids = sorted(set(episode_ids))
    if len(ids) < 2:
        raise LapaError(
            f"the dataset has {len(ids)} episode{'' if len(ids) == 1 else 's'}; a split by episode needs at least 2: "
            "record more (record --num_episodes)."
        )
    ranked = sorted(ids, key=_position)
    count = sum(_position(episode) < held_out for episode in ranked)
    count = min(max(count, 1), len(ids) - 1)
    return sorted(ranked[count:]), sorted(ranked[:count])


def _position(episode_id: int) -> float:
    """Where the episode stands in [0, 1): uniform over ids, the same for ever."""
    return int.from_bytes(hashlib.blake2b(str(episode_id).encode(), digest_size=8).digest()) / 2**64
