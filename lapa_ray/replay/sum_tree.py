"""A sum tree: non-negative priorities in, the leaf under a point of their running sum out. NumPy only.

Level by level, a whole batch at once. It knows nothing of transitions; a leaf is an index. float64, and every inner
node is computed anew from its two children, so that sums never drift.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Values = NDArray[np.float64]


class SumTree:
    """Sum tree over `capacity` leaves, any number ≥ 1. Memory: about 16 bytes a leaf."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity}")
        self.capacity = capacity
        self._levels = [np.zeros(size) for size in _level_sizes(capacity)]

    @property
    def total(self) -> float:
        """Sum of all leaves."""
        return float(self._levels[-1][0])

    def get(self, indices: Indices) -> Values:
        """Values float64 [n] of the leaves `indices` int64 [n]."""
        return self._levels[0][self._checked(indices)]

    def set(self, indices: Indices, values: Values | float) -> None:
        """Set leaves; of equal indices the last one counts. Raises `ValueError` for a negative or infinite value."""
        nodes = self._checked(indices)
        if not np.all(np.isfinite(values)) or np.any(np.less(values, 0)):
            raise ValueError("priorities must be finite and not negative")
        self._levels[0][nodes] = values
        for children, parents in zip(self._levels, self._levels[1:], strict=False):
            nodes = np.unique(nodes >> 1)
            parents[nodes] = children[2 * nodes] + children[2 * nodes + 1]

    def find(self, points: Values) -> Indices:
        """Leaf int64 [n] under each point in [0, total): the first whose running sum is greater than the point.

        Never a leaf of value 0, whatever the rounding. Raises `ValueError` if the total is 0.
        """
        if not self.total > 0:
            raise ValueError("no leaf has a priority above 0")
        nodes = np.zeros(len(points), dtype=np.int64)
        left_over = np.array(points, dtype=np.float64)
        for level in reversed(self._levels[:-1]):
            nodes *= 2
            left = level[nodes]
            # An empty right branch is never taken: rounding may leave a point just beyond the sum of its branch.
            goes_right = (left_over >= left) & (level[nodes + 1] > 0)
            left_over -= np.where(goes_right, left, 0.0)
            nodes += goes_right
        return nodes

    def get_state(self) -> dict[str, Any]:
        """The leaves; the rest follows from them."""
        return {"leaves": self._levels[0][: self.capacity]}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over the leaves of a tree of the same capacity."""
        if len(state["leaves"]) != self.capacity:
            raise ValueError(f"state of a tree of capacity {len(state['leaves'])}, not {self.capacity}")
        self._levels[0][: self.capacity] = state["leaves"]
        for children, parents in zip(self._levels, self._levels[1:], strict=False):
            count = len(children) // 2
            parents[:count] = children[0::2] + children[1::2]

    def check_valid(self) -> None:
        """Raise `AssertionError` unless every inner node is the sum of its children and no leaf is negative."""
        assert np.all(self._levels[0] >= 0), "negative priority"
        assert np.all(self._levels[0][self.capacity :] == 0), "priority behind the last leaf"
        for children, parents in zip(self._levels, self._levels[1:], strict=False):
            sums = children[0::2] + children[1::2]
            assert np.array_equal(parents[: len(sums)], sums), "inner node is not the sum of its children"

    def _checked(self, indices: Indices) -> Indices:
        nodes = np.asarray(indices, dtype=np.int64)
        if nodes.size and (nodes.min() < 0 or nodes.max() >= self.capacity):
            raise IndexError(f"leaf outside [0, {self.capacity})")
        return nodes


def _level_sizes(capacity: int) -> list[int]:
    """Nodes of each level, leaves first; all but the root padded to an even number, so that children come in pairs."""
    sizes = [capacity]
    while sizes[-1] > 1:
        sizes.append((sizes[-1] + 1) // 2)
    return [size + size % 2 for size in sizes[:-1]] + [1]
