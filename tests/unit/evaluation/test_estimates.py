"""Pooling and bootstrap intervals."""

from __future__ import annotations

import numpy as np
import pytest

from lapa_ray.evaluation.estimates import PooledRatio, jackknife


def pooled(pairs: list[tuple[float, float]]) -> PooledRatio:
    ratio = PooledRatio()
    for episode, (numerator, denominator) in enumerate(pairs):
        ratio.add(episode, numerator, denominator)
    return ratio


def test_the_value_pools_sums_and_does_not_average_ratios() -> None:
    estimate = pooled([(1, 1), (0, 9)]).estimate()
    assert estimate.value == pytest.approx(0.1)
    assert (estimate.num_episodes, estimate.num_samples) == (2, 10)


def test_fewer_than_three_episodes_have_no_interval() -> None:
    estimate = pooled([(1, 2), (2, 2)]).estimate()
    assert (estimate.low, estimate.high) == (None, None)


def test_many_additions_to_an_episode_are_one_episode() -> None:
    ratio = PooledRatio()
    for _ in range(10):
        ratio.add(7, 1, 2)
    assert ratio.estimate().num_episodes == 1


def test_nothing_counted_is_none() -> None:
    estimate = pooled([(0, 0)]).estimate()
    assert estimate.value is None
    assert estimate.num_episodes == 0


def test_the_interval_is_seeded_holds_the_value_and_agrees_with_the_standard_error() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(500, 100, size=40)
    ratio = pooled([(score, 1) for score in scores])
    first, again = ratio.estimate(seed=3), ratio.estimate(seed=3)
    assert first == again
    half_width = 1.96 * scores.std() / np.sqrt(len(scores))
    assert first.low == pytest.approx(scores.mean() - half_width, abs=0.2 * half_width)
    assert first.high == pytest.approx(scores.mean() + half_width, abs=0.2 * half_width)


def test_equal_episodes_have_an_interval_of_no_width() -> None:
    estimate = pooled([(3, 4)] * 5).estimate()
    assert (estimate.low, estimate.high) == (0.75, 0.75)


def test_the_jackknife_of_a_mean_is_students_interval() -> None:
    values = np.array([3.0, 5.0, 4.0, 8.0])
    without = np.array([np.delete(values, index).mean() for index in range(4)])
    found = jackknife(values.mean(), without, 4)
    reach = 3.182446 * values.std(ddof=1) / 2
    assert (found.value, found.low, found.high) == pytest.approx((5, 5 - reach, 5 + reach), abs=1e-5)


def test_the_jackknife_stays_within_what_is_possible_and_wants_three_episodes() -> None:
    found = jackknife(0.9, np.array([0.8, 0.9, 1.0]), 30, most=1)
    assert (found.low, found.high) == (pytest.approx(0.9 - 0.4968, abs=1e-3), 1)
    assert jackknife(0.1, np.array([0.0, 0.1, 0.2]), 30).low == 0
    two = jackknife(1.0, np.array([1.0, 2.0]), 2)
    assert (two.value, two.low, two.high, two.num_episodes) == (1, None, None, 2)


def test_the_jackknife_of_what_could_not_be_measured_has_no_interval() -> None:
    found = jackknife(5.0, np.array([1.0, np.nan, 2.0]), 9)
    assert (found.value, found.low, found.high) == (5, None, None)
    assert jackknife(np.nan, np.array([np.nan] * 3), 9).value is None
