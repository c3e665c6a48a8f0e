"""Counts: how often things occurred, episode by episode → how many are distinct and how evenly they are spread.

Everything of this sort follows from one histogram: how many things occurred once, twice and so on. Leaving an episode
out changes it only by the things of that episode, so the jackknife over episodes costs one pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from lapa_ray.evaluation.estimates import Estimate, jackknife

Histogram: TypeAlias = NDArray[np.int64]
"""[n]: at c, how many things occurred c times; at 0 it says nothing."""
Statistic: TypeAlias = Callable[[Histogram], float]


@dataclass(frozen=True)
class Counts:
    """How often each of some things occurred: keys uint64 [K], ascending, and counts int64 [K]."""

    keys: NDArray[np.uint64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, values: NDArray[np.integer]) -> Counts:
        """Counts of `values` [...], which are not negative."""
        keys, counts = np.unique(values.astype(np.uint64), return_counts=True)
        return cls(keys, counts.astype(np.int64))


def estimate(episodes: Sequence[Counts], statistic: Statistic, most: float = math.inf) -> Estimate:
    """The statistic of all episodes together, with its jackknife interval; it cannot exceed `most`."""
    keys = np.unique(np.concatenate([episode.keys for episode in episodes]))
    places = [np.searchsorted(keys, episode.keys) for episode in episodes]
    total = np.zeros(len(keys), dtype=np.int64)
    for place, episode in zip(places, episodes, strict=True):
        total[place] += episode.counts
    histogram = np.bincount(total, minlength=2)
    without = [
        statistic(_without(histogram, total[place], episode.counts))
        for place, episode in zip(places, episodes, strict=True)
    ]
    return jackknife(statistic(histogram), np.array(without), int(total.sum()), most)


def _without(histogram: Histogram, total: NDArray[np.int64], counts: NDArray[np.int64]) -> Histogram:
    """The histogram of all but one episode, in which things that occurred `total` times did so `counts` times."""
    left = np.bincount(total - counts, minlength=len(histogram))
    return histogram - np.bincount(total, minlength=len(histogram)) + left


def distinct(histogram: Histogram) -> float:
    """How many things there are."""
    return float(histogram[1:].sum())


def distinct_share(histogram: Histogram) -> float:
    """How many things there are, as a share of all occurrences."""
    occurrences = _occurrences(histogram)
    return distinct(histogram) / occurrences if occurrences else math.nan


def entropy_bits(histogram: Histogram) -> float:
    """Entropy of what occurs, bits, by its shares; at most log2 of the occurrences, and too low where they are few."""
    occurrences = _occurrences(histogram)
    if not occurrences:
        return math.nan
    times = np.arange(1, len(histogram))
    return math.log2(occurrences) - float((histogram[1:] * times * np.log2(times)).sum()) / occurrences


def distinct_among(number: int) -> Statistic:
    """How many things there are, on average, among `number` occurrences drawn without replacement (rarefaction).

    Unlike the count of all it does not grow with the dataset (Hurlbert 1971). Not-a-number where there are fewer.
    """

    def statistic(histogram: Histogram) -> float:
        occurrences = _occurrences(histogram)
        if occurrences < number:
            return math.nan
        times = np.flatnonzero(histogram[1:]) + 1
        others = occurrences - times
        missed = np.zeros(len(times))  # the chance that none of the draws is of a thing that occurs so often
        can = others >= number
        missed[can] = np.exp(_log_choose(others[can], number) - _log_choose(np.array([occurrences]), number))
        return float((histogram[times] * (1 - missed)).sum())

    return statistic


def _occurrences(histogram: Histogram) -> int:
    return int(histogram @ np.arange(len(histogram)))


def _log_choose(items: NDArray[np.int64], number: int) -> NDArray[np.float64]:
    chosen: NDArray[np.float64] = gammaln(items + 1) - gammaln(number + 1) - gammaln(items - number + 1)
    return chosen
