import itertools
import math

import numpy as np
import pytest
from scipy import stats

from lapa_ray.evaluation.run_statistics import (
    improvement,
    improvement_interval,
    interquartile_mean,
    interval,
    mean,
    resampled,
)


def column(*scores: float) -> np.ndarray:
    return np.array(scores, dtype=float)[:, None]


def test_the_interquartile_mean_leaves_out_a_quarter_at_either_end():
    assert interquartile_mean(column(1, 2, 3, 100)) == 2.5
    assert interquartile_mean(column(0, 1, 2, 3, 4, 5, 6, 1000)) == 3.5
    assert interquartile_mean(column(1, 2, 300)) == 101  # of three nothing is left out
    scores = np.random.default_rng(0).normal(size=(5, 7, 3))
    by_scipy = [stats.trim_mean(part, 0.25, axis=None) for part in scores]
    np.testing.assert_allclose(interquartile_mean(scores), by_scipy)


def test_a_bootstrap_draws_the_runs_of_each_task_on_their_own():
    scores = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    drawn = resampled(scores, np.random.default_rng(0), 4000)
    assert drawn.shape == (4000, 3, 2)
    for task in range(2):
        assert set(np.unique(drawn[..., task])) == set(scores[:, task])
        shares = np.unique(drawn[..., task], return_counts=True)[1] / drawn[..., task].size
        np.testing.assert_allclose(shares, 1 / 3, atol=0.02)
    together = (drawn[..., 0] * 10 == drawn[..., 1]).mean()
    assert together == pytest.approx(1 / 3, abs=0.02)  # one task's draw says nothing of the other's


def test_an_interval_is_that_of_all_resamples_written_out():
    """Three runs have 27 resamples, so their percentiles can be counted by hand."""
    scores = column(0, 1, 5)
    means = np.sort([np.mean(drawn) for drawn in itertools.product(scores[:, 0], repeat=3)])
    found = interval(scores, mean)
    assert found.value == 2
    assert (found.low, found.high) == (means[0], means[-1])  # 1 of 27 is more than 2.5 % at either end
    # Of eight runs, by scipy's own bootstrap.
    many = np.random.default_rng(1).normal(10, 3, size=(8, 1))
    theirs = stats.bootstrap(
        (many[:, 0],), lambda x, axis: stats.trim_mean(x, 0.25, axis=axis), n_resamples=20_000, method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    ours = interval(many, interquartile_mean)
    assert ours.low == pytest.approx(theirs.low, abs=0.15)
    assert ours.high == pytest.approx(theirs.high, abs=0.15)


def test_two_runs_have_a_value_and_no_interval_and_none_has_neither():
    assert interval(column(1, 3), mean).model_dump() == {"value": 2.0, "low": None, "high": None}
    assert interval(np.zeros((0, 1)), mean).value is None
    assert improvement_interval(column(1, 2), column(0, 0)).model_dump() == {"value": 1.0, "low": None, "high": None}
    assert improvement_interval(column(1), np.zeros((0, 1))).value is None


def test_how_likely_one_run_beats_another_is_the_share_of_pairs():
    assert improvement(column(1, 2, 3), column(2, 2)) == (0 + 0 + 0.5 + 0.5 + 1 + 1) / 6
    ours, theirs = np.random.default_rng(0).normal(size=(2, 6, 1))
    u = stats.mannwhitneyu(ours[:, 0], theirs[:, 0]).statistic
    assert improvement(ours, theirs) == pytest.approx(u / 36)
    certain = improvement_interval(column(5, 6, 7), column(1, 2, 3))
    assert (certain.value, certain.low, certain.high) == (1, 1, 1)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    generator, hits = np.random.default_rng(3), 0
    for number in range(200):
        found = interval(generator.normal(4.0, 1.0, size=(20, 1)), mean, seed=number)
        hits += found.low <= 4.0 <= found.high
    assert math.isclose(hits / 200, 0.93, abs_tol=0.05)
