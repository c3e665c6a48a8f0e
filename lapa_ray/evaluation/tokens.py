"""Token accuracy: predicted and true grids of codes → share of tokens that are right, on all and on changed tokens.

Knows no model: whoever predicts (world model, copy-last, per-position mode) is counted in the same way.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lapa_ray.evaluation.estimates import Estimate, PooledRatio

Codes = NDArray[np.integer]


class TokenAccuracy:
    """Hits of one predictor, by episode. A token is *changed* where the truth differs from the last true grid seen."""

    def __init__(self) -> None:
        self._all, self._changed = PooledRatio(), PooledRatio()

    def update(self, predicted: Codes, true: Codes, last_seen: Codes, episode_id: int = 0) -> None:
        """Count grids, integers [B, positions], of one episode; `last_seen` is the true grid that copy-last repeats."""
        hits = np.asarray(predicted == true)
        changed = np.asarray(true != last_seen)
        self._all.add(episode_id, int(hits.sum()), hits.size)
        self._changed.add(episode_id, int(hits[changed].sum()), int(changed.sum()))

    def accuracy(self, seed: int = 0) -> Estimate:
        """Share of all tokens that are right, in [0, 1]."""
        return self._all.estimate(seed=seed)

    def changed_accuracy(self, seed: int = 0) -> Estimate:
        """Share of the changed tokens that are right, in [0, 1]; copy-last has 0 there by definition."""
        return self._changed.estimate(seed=seed)
