"""Plans of an epoch: every item once over all workers, in even batches, from a window that is kept."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lapa_ray.dataset.plan import Plan, batch_bounds, cut, in_order, make_plan, num_batches, pack, share, shuffled

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=12)
REACH = st.integers(0, 5)


def spans_of(lengths: list[int], reach: int, size: int, group: int = 7) -> list:
    """Episodes of `lengths` pictures in row groups of `group`."""
    return [
        span
        for episode, length in enumerate(lengths)
        for span in cut(episode, length, np.arange(0, length, group), reach, size)
    ]


def items(plan: Plan, reach: int) -> list[tuple[int, int]]:
    """(episode, first picture) of each item, in the order of drawing."""
    rows = [[(s.episode_id, s.first + n) for s in chunk for n in range(s.count + reach)] for chunk in plan.chunks]
    return [rows[chunk][row] for chunk, row in zip(plan.chunk, plan.row, strict=True)]


def all_items(lengths: list[int], reach: int) -> list[tuple[int, int]]:
    return [(episode, first) for episode, length in enumerate(lengths) for first in range(length - reach)]


@settings(deadline=None)
@given(LENGTHS, REACH, st.integers(1, 40))
def test_spans_are_the_episodes_cut_at_row_groups(lengths, reach, size):
    spans = spans_of(lengths, reach, size)
    assert [(s.episode_id, s.first + n) for s in spans for n in range(s.count)] == all_items(lengths, reach)
    assert all(span.first % 7 == 0 for span in spans)
    assert all(span.count <= max(size, 7) for span in spans)


@settings(deadline=None)
@given(LENGTHS, REACH, st.integers(1, 5), st.integers(1, 30), st.integers(2, 6), st.integers(0, 9))
def test_every_item_once_an_epoch_over_the_workers(lengths, reach, world_size, capacity, window, seed):
    spans = shuffled(spans_of(lengths, reach, 14), seed, epoch=1)
    capacity += 14 + reach
    drawn, sizes = [], []
    for rank in range(world_size):
        chunks = pack(share(spans, rank, world_size), reach, capacity)
        assert all(sum(s.count + reach for s in chunk) <= capacity for chunk in chunks)
        plan = make_plan(chunks, reach, window, np.random.default_rng(seed + rank))
        drawn += items(plan, reach)
        sizes.append(len(plan))
        assert sorted(items(in_order(chunks, reach), reach)) == sorted(items(plan, reach))
    assert sorted(drawn) == all_items(lengths, reach)
    assert max(sizes) - min(sizes) <= 1


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(1, 40), st.integers(1, 5))
def test_workers_make_as_many_batches_and_none_is_empty(total, batch_size, world_size):
    shares = [total * (rank + 1) // world_size - total * rank // world_size for rank in range(world_size)]
    count = num_batches(total, batch_size, world_size, drop_last=False)
    for size in shares:
        sizes = np.diff(batch_bounds(size, count, batch_size, drop_last=False))
        assert sizes.sum() == (size if count else 0)
        assert max(sizes, default=0) - min(sizes, default=0) <= 1
        assert count == 0 or 1 <= min(sizes) <= max(sizes) <= max(batch_size, 2)
        full = batch_bounds(
            size, num_batches(total, batch_size, world_size, drop_last=True), batch_size, drop_last=True
        )
        assert set(np.diff(full)) <= {batch_size}
        assert full[-1] <= size < full[-1] + batch_size + 1


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(1, 9), st.integers(1, 50), st.integers(0, 99))
def test_the_window_is_kept(counts, window, batch_size, seed):
    chunks = [tuple(cut(episode, count, np.array([0]), 0, 1000)) for episode, count in enumerate(counts)]
    plan = make_plan(chunks, 0, window, np.random.default_rng(seed))
    first, last = plan.uses()
    alive = [int(((first <= place) & (last >= place)).sum()) for place in range(len(plan))]
    assert max(alive) <= window
    bounds = batch_bounds(len(plan), -(-len(plan) // batch_size), batch_size, drop_last=False)
    batches = list(pairwise(bounds))
    assert plan.most_alive(bounds) == max(int(((first < b) & (last >= a)).sum()) for a, b in batches)


def test_a_window_draws_from_all_its_chunks_alike():
    chunks = [tuple(cut(episode, 400, np.array([0]), 0, 1000)) for episode in range(40)]
    plan = make_plan(chunks, 0, 8, np.random.default_rng(0))
    kinds = [len(set(plan.chunk[start : start + 32])) for start in range(0, len(plan) - 31, 32)]
    assert min(kinds[:4]) == 4, "the first batches wait for few chunks"
    assert min(kinds[16:]) >= 5
    assert np.mean(kinds) > 7
