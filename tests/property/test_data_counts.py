"""Distinct things and entropies: the histogram says the same as the occurrences themselves, also less an episode."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapa_ray.evaluation.data_quality_counts import (
    Counts,
    distinct,
    distinct_among,
    distinct_share,
    entropy_bits,
    estimate,
)
from lapa_ray.evaluation.estimates import jackknife

episodes_of_things = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=9), min_size=1, max_size=5)


def counts(episodes: list[list[int]]) -> list[Counts]:
    return [Counts.of(np.array(episode)) for episode in episodes]


def plain_entropy(things: list[int]) -> float:
    shares = np.array(list(Counter(things).values())) / len(things)
    return float(-(shares * np.log2(shares)).sum())


def flat(episodes: list[list[int]]) -> list[int]:
    return [thing for episode in episodes for thing in episode]


@settings(deadline=None)
@given(episodes_of_things)
def test_values_are_those_of_all_occurrences_together(episodes: list[list[int]]) -> None:
    things = flat(episodes)
    assert estimate(counts(episodes), distinct).value == len(set(things))
    assert estimate(counts(episodes), distinct_share).value == pytest.approx(len(set(things)) / len(things))
    assert estimate(counts(episodes), entropy_bits).value == pytest.approx(plain_entropy(things), abs=1e-9)
    found = estimate(counts(episodes), distinct)
    assert (found.num_episodes, found.num_samples) == (len(episodes), len(things))


@settings(deadline=None)
@given(episodes_of_things.filter(lambda episodes: len(episodes) > 1))
def test_intervals_leave_out_one_episode_at_a_time(episodes: list[list[int]]) -> None:
    left = [flat(episodes[:index] + episodes[index + 1 :]) for index in range(len(episodes))]
    for statistic, plain in ((distinct, lambda things: len(set(things))), (entropy_bits, plain_entropy)):
        found = estimate(counts(episodes), statistic)
        without = np.array([plain(things) for things in left], dtype=np.float64)
        expected = jackknife(plain(flat(episodes)), without, len(flat(episodes)))
        assert found.model_dump() == pytest.approx(expected.model_dump(), abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.integers(1, 8))
def test_the_expected_number_among_some_is_that_of_all_ways_to_draw_them(things: list[int], number: int) -> None:
    value = estimate(counts([things]), distinct_among(number)).value
    if number > len(things):
        assert value is None
        return
    ways = [len(set(drawn)) for drawn in combinations(things, number)]
    assert value == pytest.approx(sum(ways) / len(ways))


def test_of_a_million_occurrences_the_expected_number_is_exact_enough() -> None:
    histogram = np.zeros(1001, dtype=np.int64)
    histogram[1000] = 1000  # a thousand things, a thousand times each
    assert distinct_among(1_000_000)(histogram) == pytest.approx(1000)
    expected = 1000 * (1 - math.exp(1000 * math.log1p(-1000 / 1_000_000)))
    assert distinct_among(1000)(histogram) == pytest.approx(expected, rel=1e-3)
