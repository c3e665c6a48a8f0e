"""Learning curves: the rows of the metric logs of several runs in → curves on common steps and figures of the end out.

A row tells of what happened since the row before it, so rows are averaged by how many episodes or updates they stand
for. Knows the names under which training logs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.seeds import generator_for
from lapa_ray.evaluation.run_statistics import (
    CONFIDENCE,
    MIN_RUNS_FOR_INTERVAL,
    interquartile_mean,
    resampled,
)

Row = Mapping[str, Any]
Numbers = NDArray[np.float64]
NUM_BINS = 60
"""Points of a curve: more cannot be seen."""


@dataclass(frozen=True)
class LoggedMetric:
    """A value that training logs. `counted_by`: the count that its rows are weighted by; None: all rows alike."""

    name: str
    label: str
    unit: str
    meaning: str
    counted_by: Literal["num_episodes", "num_updates"] | None = "num_updates"


METRICS = (
    LoggedMetric("return", "Return", "points", "raw score of training episodes, with random actions", "num_episodes"),
    LoggedMetric("episode_length", "Episode length", "steps", "agent steps of the training episodes", "num_episodes"),
    LoggedMetric("mean_q", "Q value, mean", "", "mean over sampled states and actions"),
    LoggedMetric("variance_q", "Q value, variance", "", "variance over sampled states and actions"),
    LoggedMetric("max_q", "Q value, greatest", "", "greatest of a batch, mean over batches"),
    LoggedMetric("td_error", "TD error", "", "mean absolute error of a batch, as sampled: PER prefers large ones"),
    LoggedMetric("gradient_norm", "Gradient norm", "", "l2 norm before clipping"),
    LoggedMetric("loss", "Loss", "", "weighted Huber loss of a batch"),
    LoggedMetric("updates_per_s", "Speed", "updates/s", "updates a second, beside whatever else ran there", None),
)  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """One metric of one run: values [n] at agent steps [n], ascending."""

    steps: Numbers
    values: Numbers


@dataclass(frozen=True)
class Bundle:
    """The runs of one kind: steps [n], each run's values [runs, n], their interquartile mean [n], its interval.

    Not-a-number where not all runs have a value; `low` and `high` are not-a-numbers throughout below three runs.
    """

    steps: Numbers
    runs: Numbers
    middle: Numbers
    low: Numbers
    high: Numbers


def final_value(rows: Sequence[Row], metric: LoggedMetric, after: float) -> float | None:
    """Mean of the metric over what happened after step `after`; None if nothing of it did."""
    points = _points(rows, metric)
    return _mean(points[points[:, 0] > after])


def bundle(runs: Sequence[Sequence[Row]], metric: LoggedMetric, num_steps: int, seed: int = 0) -> Bundle:
    """The curves of `runs`, each the rows of a log, on common steps in (0, num_steps]."""
    edges = np.linspace(0, num_steps, min(NUM_BINS, max((len(rows) for rows in runs), default=1)) + 1)
    steps = edges[1:]
    curves = np.array([_on(steps, binned(rows, metric, edges)) for rows in runs]).reshape(len(runs), len(steps))
    middle, low, high = (np.full(len(steps), np.nan) for _ in range(3))
    known = np.isfinite(curves).all(axis=0) & (len(curves) > 0)
    if known.any():
        middle[known] = interquartile_mean(curves[:, known].T[..., None])
    if known.any() and len(curves) >= MIN_RUNS_FOR_INTERVAL:
        low[known], high[known] = _band(curves[:, known], seed)
    return Bundle(steps, curves, middle, low, high)


def binned(rows: Sequence[Row], metric: LoggedMetric, edges: Numbers) -> Curve:
    """Means of the metric between neighbouring `edges`, at the upper one; bins in which nothing happened are left out.

    The last bin has no upper end: a rollout may go a few steps beyond the plan.
    """
    points = _points(rows, metric)
    bins = np.searchsorted(edges[1:-1], points[:, 0])  # of a step on an edge, the bin below
    means = [_mean(points[bins == number]) for number in range(len(edges) - 1)]
    known = [number for number, value in enumerate(means) if value is not None]
    return Curve(edges[1:][known], np.array([means[number] for number in known], dtype=np.float64))


def _points(rows: Sequence[Row], metric: LoggedMetric) -> Numbers:
    """[n, 3]: step, value and weight of the rows that have the metric."""
    found, before = [], 0
    for row in rows:
        count = before + 1 if metric.counted_by is None else int(row.get(metric.counted_by) or 0)
        if row.get(metric.name) is not None:
            found.append((row["step"], row[metric.name], max(count - before, 0)))
        before = count
    return np.array(found, dtype=np.float64).reshape(-1, 3)


def _mean(points: Numbers) -> float | None:
    """Weighted mean of the values of points [n, 3]; None where they weigh nothing."""
    total = points[:, 2].sum()
    return float(points[:, 1] @ points[:, 2] / total) if total > 0 else None


def _on(steps: Numbers, curve: Curve) -> Numbers:
    """The curve at `steps`, with straight lines across gaps and nothing before its first and after its last value."""
    if not len(curve.steps):
        return np.full(len(steps), np.nan)
    return np.interp(steps, curve.steps, curve.values, left=np.nan, right=np.nan)


def _band(curves: Numbers, seed: int) -> tuple[Numbers, Numbers]:
    """Ends of the interval of the interquartile mean of curves [runs, n] at each of n points."""
    drawn = resampled(curves, generator_for(seed, "bands"))
    middles = interquartile_mean(np.moveaxis(drawn, 2, 1)[..., None])
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(middles, [tail, 100 - tail], axis=0)
    return low, high
