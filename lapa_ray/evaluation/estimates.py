"""Estimates: a pooled figure, and how sure it is. Sums per episode come in, a value with its interval goes out.

Nearly every figure of this house is a ratio of sums (squared error over values, hits over tokens, score over
episodes), so one class pools them all. Steps of one episode resemble each other, so intervals resample whole episodes,
never steps. Counts of different things, and entropies, are no such ratios: an episode drawn twice adds nothing
different, so a bootstrap would be biased, and the jackknife, which leaves out one episode at a time, takes its place.
Knows nothing of what it counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.special import stdtrit

from lapa_ray.core.seeds import generator_for

NUM_RESAMPLES = 2000
MIN_EPISODES_FOR_INTERVAL = 3
"""Fewer episodes say nothing about how episodes differ."""
CONFIDENCE = 0.95

Array: TypeAlias = NDArray[np.float64]
Transform: TypeAlias = Callable[[Array], Array]


class Estimate(BaseModel):
    """A figure and its 95 % interval over episodes.

    `value` is None where nothing was there to measure, or where no finite number says it (the PSNR of equal pictures);
    `low` and `high` are None below three episodes. `num_samples` counts what was pooled (values, tokens, episodes).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float | None
    low: float | None = None
    high: float | None = None
    num_episodes: int
    num_samples: int


def identity(ratio: Array) -> Array:
    """The ratio itself: accuracies, means."""
    return ratio


class PooledRatio:
    """Sum of numerators over sum of denominators, kept by episode."""

    def __init__(self) -> None:
        self._sums: dict[int, tuple[float, float]] = {}

    def add(self, episode_id: int, numerator: float, denominator: float) -> None:
        """Add to the sums of `episode_id`."""
        before = self._sums.get(episode_id, (0.0, 0.0))
        self._sums[episode_id] = (before[0] + numerator, before[1] + denominator)

    def ratio(self) -> float:
        """The pooled ratio; not-a-number where nothing was counted."""
        numerator = math.fsum(pair[0] for pair in self._sums.values())
        denominator = math.fsum(pair[1] for pair in self._sums.values())
        return numerator / denominator if denominator else math.nan

    def estimate(self, transform: Transform = identity, seed: int = 0) -> Estimate:
        """The `transform`ed ratio with its interval over episodes."""
        counted = [pair for pair in self._sums.values() if pair[1]]
        value = transform(np.array([self.ratio()]))[0]
        low, high = _interval(np.array(counted).reshape(-1, 2), transform, seed)
        return Estimate(
            value=_finite(value),
            low=low,
            high=high,
            num_episodes=len(counted),
            num_samples=int(sum(pair[1] for pair in counted)),
        )


def jackknife(value: float, without: Array, num_samples: int, most: float = math.inf) -> Estimate:
    """`value` with its interval from what it is `without` each episode in turn, [E] (Heltshe and Forrester 1983).

    The interval is symmetric, of Student's t with E − 1 degrees of freedom, within 0 and `most`.
    """
    count, low, high = len(without), None, None
    if count >= MIN_EPISODES_FOR_INTERVAL:
        variance = (count - 1) / count * float(((without - without.mean()) ** 2).sum())
        reach = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * math.sqrt(variance)
        low, high = _finite(max(value - reach, 0.0)), _finite(min(value + reach, most))
    return Estimate(value=_finite(value), low=low, high=high, num_episodes=count, num_samples=num_samples)


def _interval(sums: Array, transform: Transform, seed: int) -> tuple[float | None, float | None]:
    """Percentile bootstrap of the transformed ratio of sums [E, 2], resampling its E rows."""
    if len(sums) < MIN_EPISODES_FOR_INTERVAL:
        return None, None
    generator = generator_for(seed, "bootstrap")
    drawn = generator.integers(len(sums), size=(NUM_RESAMPLES, len(sums)))
    totals = sums[drawn].sum(axis=1)
    tail = 50 * (1 - CONFIDENCE)
    # Order statistics, not interpolation: the interval of an infinite PSNR would be not-a-number otherwise.
    low, high = np.percentile(transform(totals[:, 0] / totals[:, 1]), [tail, 100 - tail], method="inverted_cdf")
    return _finite(low), _finite(high)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
