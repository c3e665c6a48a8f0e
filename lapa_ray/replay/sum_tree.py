"""A sum tree: non-negative priorities in, the leaf under a point of their running sum out. NumPy only.

Level by level, a whole batch at once. Nodes have 32 children instead of 2: 1,000,000 leaves are 4 levels instead of 20,
and it is the number of NumPy calls that costs time, not the sum of 32 neighbours. It knows nothing of transitions; a
leaf is an index. float64, and every inner node is computed anew from its children, so that sums never drift.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Values = NDArray[np.float64]
WIDTH = 32
"""Children of a node."""


class SumTree:
    """Sum tree over `capacity` leaves, any number ≥ 1. Memory: about 8.3 bytes a leaf."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity}")
        self.capacity = capacity
        self._levels = _zero_levels(capacity)

    @property
    def total(self) -> float:
        """Sum of all leaves."""
        return float(self._levels[-1].sum())

    def get(self, indices: Indices) -> Values:
        """Values float64 [n] of the leaves `indices` int64 [n]."""
        return _nodes(self._levels[0])[self._checked(indices)]

    def set(self, indices: Indices, values: Values | float) -> None:
        """Set leaves; of equal indices the last one counts. Raises `ValueError` for a negative or infinite value."""
        nodes = self._checked(indices)
        if not nodes.size:
            return
        if not (np.min(values) >= 0 and np.max(values) < np.inf):
            raise ValueError("priorities must be finite and not negative")
        _nodes(self._levels[0])[nodes] = values
        for level, above in pairwise(self._levels):
            nodes = _distinct(nodes // WIDTH)
            _nodes(above)[nodes] = level[nodes].sum(axis=1)

    def find(self, points: Values) -> Indices:
        """Leaf int64 [n] under each point in [0, total): the first whose running sum is greater than the point.

        Never a leaf of value 0, whatever the rounding. Raises `ValueError` if the total is 0.
        """
        if not self.total > 0:
            raise ValueError("no leaf has a priority above 0")
        rows = np.arange(len(points))
        nodes = np.zeros(len(points), dtype=np.int64)
        left_over = np.asarray(points, dtype=np.float64)
        for level in reversed(self._levels):
            sums = np.add.accumulate(level.take(nodes, axis=0), axis=1)
            # Rounding may leave a point just beyond the sum of its branch, behind which there are only zeros.
            left_over = np.minimum(left_over, np.nextafter(sums[:, -1], 0.0))
            child = (sums > left_over[:, None]).argmax(axis=1)
            left_over -= sums[rows, child - 1] * (child > 0)
            nodes = nodes * WIDTH + child
        return nodes

    def get_state(self) -> dict[str, Any]:
        """The leaves; the rest follows from them."""
        return {"leaves": _nodes(self._levels[0])[: self.capacity]}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over the leaves of a tree of the same capacity."""
        if len(state["leaves"]) != self.capacity:
            raise ValueError(f"state of a tree of capacity {len(state['leaves'])}, not {self.capacity}")
        _nodes(self._levels[0])[: self.capacity] = state["leaves"]
        for level, above in pairwise(self._levels):
            _nodes(above)[: len(level)] = level.sum(axis=1)

    def check_valid(self) -> None:
        """Raise `AssertionError` unless every inner node is the sum of its children and no leaf is negative."""
        leaves = _nodes(self._levels[0])
        assert np.all(leaves >= 0), "negative priority"
        assert np.all(leaves[self.capacity :] == 0), "priority behind the last leaf"
        for level, above in pairwise(self._levels):
            assert np.array_equal(_nodes(above)[: len(level)], level.sum(axis=1)), "a node is not its children's sum"
            assert np.all(_nodes(above)[len(level) :] == 0), "sum behind the last node"

    def _checked(self, indices: Indices) -> Indices:
        nodes = np.asarray(indices, dtype=np.int64)
        if nodes.size and (nodes.min() < 0 or nodes.max() >= self.capacity):
            raise IndexError(f"leaf outside [0, {self.capacity})")
        return nodes


def _zero_levels(capacity: int) -> list[Values]:
    """The nodes of each level, [number of parents, 32], leaves first; the last level has one parent, the root."""
    levels = [np.zeros((-(-capacity // WIDTH), WIDTH))]
    while len(levels[-1]) > 1:
        levels.append(np.zeros((-(-len(levels[-1]) // WIDTH), WIDTH)))
    return levels


def _nodes(level: Values) -> Values:
    """All nodes of a level in one row (a view)."""
    return level.reshape(-1)


def _distinct(nodes: Indices) -> Indices:
    """`nodes` without repeats where that pays: to find the repeats in a few takes longer than to sum them twice."""
    return nodes if len(nodes) <= 4 * WIDTH else np.unique(nodes)
