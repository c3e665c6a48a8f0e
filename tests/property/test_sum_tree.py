"""The sum tree against brute force, for any capacity: one that is no power of two is a known bug elsewhere."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lapa_ray.replay.sum_tree import WIDTH, SumTree

CAPACITIES = st.integers(1, 70) | st.sampled_from([WIDTH**2 - 1, WIDTH**2, WIDTH**2 + 1, 3000])
"""Of one, two and three levels; a level that is just full, and one that is not."""
PRIORITIES = st.floats(0, 1000, allow_nan=False).map(lambda value: round(value, 3))


@st.composite
def writes(draw: st.DrawFn) -> tuple[int, list[tuple[int, float]]]:
    capacity = draw(CAPACITIES)
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
@given(CAPACITIES, st.integers(0, 2**31))
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


@settings(max_examples=50, deadline=None)
@given(CAPACITIES, st.integers(0, 2**31))
def test_points_at_the_bounds_of_leaves_never_find_an_empty_one(capacity: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    leaves = generator.lognormal(sigma=4, size=capacity) * (generator.random(capacity) < 0.3)
    leaves[generator.integers(capacity)] = 0.1
    tree = SumTree(capacity)
    tree.set_state({"leaves": leaves})
    bounds = np.append(np.cumsum(leaves), [tree.total, np.nextafter(tree.total, np.inf)])
    assert np.all(leaves[tree.find(bounds)] > 0)
