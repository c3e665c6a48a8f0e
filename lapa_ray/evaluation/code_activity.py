"""Code activity and code map: where codes answer to motion, and which code vectors lie near each other.

Activity of a grid position: the share of pairs whose code there is not the position's commonest one. It is asked of the
codes and not of the encoder's activations, since codes are all that decoder and world model ever see. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lapa_ray.evaluation.latents import embed

STILL_QUANTILE, MOVING_QUANTILE = 0.25, 0.75
ACTIVITY_RULE = (
    "Share of pairs whose code at that place is not the commonest one there. Still: the quarter of the held-out pairs "
    "in which the fewest pixels change; moving: the quarter in which the most do."
)
MOST_MAPPED = 2000
"""t-SNE sees the most frequent codes alone if there are more: it takes minutes beyond."""
LEAST_MAPPED = 13
"""Fewer code vectors have no neighbourhoods to be kept."""
TSNE_PERPLEXITY = 30.0


@dataclass(frozen=True)
class Activity:
    """Shares in [0, 1] of pairs with an uncommon code, float64 [positions]; pairs of each kind, and their pixels.

    num_pairs int64 [2]; pixels int64 [2]: at most so many change in still pairs, at least so many in moving ones.
    """

    still: NDArray[np.float64]
    moving: NDArray[np.float64]
    num_pairs: NDArray[np.int64]
    pixels: NDArray[np.int64]


@dataclass(frozen=True)
class CodeMap:
    """Code vectors in two dimensions: points float64 [n, 2] of codes int64 [n], how often each is used int64 [n].

    positions int64 [n]: where in the grid it is commonest, −1 where it is never used. trust: how far neighbours in the
    picture are neighbours in truth, in [0, 1] (Venna and Kaski 2001); chance gives about a half.
    """

    points: NDArray[np.float64]
    codes: NDArray[np.int64]
    counts: NDArray[np.int64]
    positions: NDArray[np.int64]
    trust: float


def code_activity(codes: NDArray[np.integer], mode: NDArray[np.integer], changed: NDArray[np.int64]) -> Activity:
    """Activity of grids `codes` [N, positions] beside each position's `mode`; `changed` [N]: pixels of each pair."""
    limits = np.quantile(changed, [STILL_QUANTILE, MOVING_QUANTILE], method="inverted_cdf").astype(np.int64)
    kinds = (changed <= limits[0], changed >= limits[1])
    uncommon = codes != mode
    still, moving = (uncommon[kind].mean(axis=0) for kind in kinds)
    return Activity(still, moving, np.array([int(kind.sum()) for kind in kinds]), limits)


def code_map(vectors: NDArray[np.float32], counts: NDArray[np.integer], seed: int) -> CodeMap | None:
    """t-SNE of code `vectors` [codes, dim], `counts` [positions, codes] of their use; None of too few codes."""
    total = counts.sum(axis=0)
    chosen = np.sort(np.argsort(-total, kind="stable")[:MOST_MAPPED])
    if len(np.unique(vectors[chosen], axis=0)) < LEAST_MAPPED:
        return None
    perplexity = min(TSNE_PERPLEXITY, (len(chosen) - 1) / 3)
    flat = embed(vectors[chosen], perplexity, seed)
    where = np.where(total > 0, counts.argmax(axis=0), -1)
    return CodeMap(flat.tsne, chosen, total[chosen].astype(np.int64), where[chosen], flat.tsne_trust)
