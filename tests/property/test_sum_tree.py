"""The sum tree against brute force, for any capacity: one that is no power of two is a known bug elsewhere."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lapa_ray.replay.sum_tree import SumTree

PRIORITIES = st.floats(0, 1000, allow_nan=False).map(lambda value: round(value, 3))


@st.composite
def writes(draw: st.DrawFn) -> tuple[int, list[tuple[int, float]]]:
    capacity = draw(st.integers(1, 70))
    return capacity, draw(st.lists(st.tuples(st.integers(0, capacity - 1), PRIORITIES), min_size=1, max_size=40))


@settings(max_examples=150, deadline=None)
@given(writes(), st.floats(0, 1, exclude_max=True))
def test_total_get_and_find_equal_brute_force(case: tuple[int, list[tuple[int, float]]], share: float) -> None:
    capacity, pairs = case
    tree, plain = SumTree(capacity), np.zeros(capacity)
    for slot, priority in pairs:
        tree.set(np.array([slot]), priority)
        plain[slot] = priority
    tree.check_valid()
    np.testing.assert_allclose(tree.get(np.arange(capacity)), plain)
    np.testing.assert_allclose(tree.total, plain.sum(), atol=1e-9)
    if plain.sum() == 0:
        return
    found = int(tree.find(np.array([share * tree.total]))[0])
    bounds = np.concatenate([[0], np.cumsum(plain)])
    assert plain[found] > 0
    assert bounds[found] - 1e-6 <= share * plain.sum() <= bounds[found + 1] + 1e-6


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 70), st.integers(0, 2**31))
def test_writing_many_slots_at_once_equals_one_by_one(capacity: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    slots = generator.permutation(capacity)[: max(1, capacity // 2)]
    priorities = generator.random(len(slots))
    at_once, one_by_one = SumTree(capacity), SumTree(capacity)
    at_once.set(slots, priorities)
    for slot, priority in zip(slots, priorities, strict=True):
        one_by_one.set(np.array([slot]), priority)
    np.testing.assert_allclose(at_once.get(np.arange(capacity)), one_by_one.get(np.arange(capacity)))
    np.testing.assert_allclose(at_once.total, one_by_one.total)
