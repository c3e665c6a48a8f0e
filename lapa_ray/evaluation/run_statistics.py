"""Run statistics: the scores of several runs in → mean, interquartile mean and their intervals out.

As Agarwal et al. 2021 ("Deep reinforcement learning at the edge of the statistical precipice") ask for: few seeds tell
little, so an interval stands with every figure, and the interquartile mean is neither moved by one lucky run nor as
wide as the median. Scores are [runs, tasks]; one game is one task. Knows not what was run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from lapa_ray.core.seeds import generator_for

Scores: TypeAlias = NDArray[np.float64]
Statistic: TypeAlias = Callable[[Scores], NDArray[np.float64]]
"""Scores [..., runs, tasks] to figures [...]."""

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95
MIN_RUNS_FOR_INTERVAL = 3
"""Fewer runs say nothing about how runs differ."""
TRIMMED_SHARE = 0.25


class Interval(BaseModel):
    """A figure over runs and its 95 % interval, whose ends are None below three runs; value None without any."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float | None
    low: float | None = None
    high: float | None = None


def mean(scores: Scores) -> NDArray[np.float64]:
    """Mean of all scores [..., runs, tasks]."""
    return np.asarray(scores.mean(axis=(-2, -1)))


def interquartile_mean(scores: Scores) -> NDArray[np.float64]:
    """Mean of the middle half of all scores [..., runs, tasks]: a quarter, rounded down, is left out at either end.

    Of fewer than four scores nothing is left out.
    """
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    left_out = int(TRIMMED_SHARE * flat.shape[-1])
    return np.asarray(flat[..., left_out : flat.shape[-1] - left_out].mean(axis=-1))


def resampled(scores: Scores, generator: np.random.Generator, num_resamples: int = NUM_RESAMPLES) -> Scores:
    """Stratified bootstrap: [num_resamples, runs, tasks], the runs of each task drawn with replacement on their own."""
    num_runs, num_tasks = scores.shape
    drawn = generator.integers(num_runs, size=(num_resamples, num_runs, num_tasks))
    return np.take_along_axis(np.broadcast_to(scores, drawn.shape), drawn, axis=1)


def interval(scores: Scores, statistic: Statistic, seed: int = 0) -> Interval:
    """`statistic` of scores [runs, tasks] with its percentile interval."""
    if not len(scores):
        return Interval(value=None)
    value = float(statistic(scores))
    if len(scores) < MIN_RUNS_FOR_INTERVAL:
        return Interval(value=value)
    low, high = _percentiles(statistic(resampled(scores, generator_for(seed, "stratified bootstrap"))))
    return Interval(value=value, low=low, high=high)


def improvement(scores: Scores, others: Scores) -> NDArray[np.float64]:
    """How likely a run of `scores` [..., runs, tasks] scores more than one of `others`; equal ones count half.

    The mean over tasks of Mann and Whitney's U as a share of all pairs of runs.
    """
    ours, theirs = scores[..., :, None, :], others[..., None, :, :]
    return np.asarray(((ours > theirs) + 0.5 * (ours == theirs)).mean(axis=(-3, -2, -1)))


def improvement_interval(scores: Scores, others: Scores, seed: int = 0) -> Interval:
    """`improvement` with its percentile interval; both sides are resampled."""
    if not (len(scores) and len(others)):
        return Interval(value=None)
    value = float(improvement(scores, others))
    if min(len(scores), len(others)) < MIN_RUNS_FOR_INTERVAL:
        return Interval(value=value)
    ours = resampled(scores, generator_for(seed, "stratified bootstrap"))
    theirs = resampled(others, generator_for(seed, "stratified bootstrap", "others"))
    low, high = _percentiles(improvement(ours, theirs))
    return Interval(value=value, low=low, high=high)


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)
