"""How transitions are chosen: ids in, ids and importance weights out. NumPy only; knows nothing of frames.

Both samplers follow the held range [tail, head) of ids, which the buffer tells them whenever it changes.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lapa_ray.replay.sum_tree import SumTree

Indices = NDArray[np.int64]
Floats = NDArray[np.float32]
MIN_PRIORITY = 1e-6
"""Added to |TD error|, so that no held transition is out of reach (ε of Schaul et al. 2016, section 3.3)."""


class Sampler(Protocol):
    """Chooses among the held transitions."""

    def hold(self, tail: int, head: int, td_errors: Floats | None = None) -> None:
        """From now on the ids [tail, head) are held; those at or above the old head are new.

        `td_errors` float32 [number of new ids]: first |TD errors| of the new ones, NaN where not known.
        """

    def sample(self, count: int, beta: float) -> tuple[Indices, Floats]:
        """Ids int64 [count] and importance weights float32 [count], the greatest of them 1."""

    def update(self, ids: Indices, td_errors: Floats) -> None:
        """Learn the |TD errors| of `ids`; those that are held no more are dropped."""

    def get_state(self) -> dict[str, Any]:
        """What `set_state` needs; the held range is told by `hold`."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a state."""

    def check_valid(self) -> None:
        """Raise `AssertionError` if something disagrees."""


class UniformSampler:
    """Every held transition alike."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._tail = self._head = 0

    def hold(self, tail: int, head: int, td_errors: Floats | None = None) -> None:  # noqa: ARG002
        """Note the held range."""
        self._tail, self._head = tail, head

    def sample(self, count: int, beta: float) -> tuple[Indices, Floats]:  # noqa: ARG002
        """Independent draws; all weights are 1."""
        return self._generator.integers(self._tail, self._head, count), np.ones(count, dtype=np.float32)

    def update(self, ids: Indices, td_errors: Floats) -> None:
        """Nothing to learn."""

    def get_state(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Nothing to take over."""

    def check_valid(self) -> None:
        """Raise `AssertionError` if the range is no range."""
        assert 0 <= self._tail <= self._head


class PrioritisedSampler:
    """Proportional prioritisation (Schaul et al. 2016): P(i) ∝ (|TD error| + 1e-6)^α, stratified draws.

    New transitions get the greatest priority seen, unless their TD errors are told at once, as by the actors of Horgan
    et al. (2018), "Distributed prioritized experience replay". Weights (N · P(i))^−β are divided by the greatest of the
    batch.
    """

    def __init__(self, capacity: int, alpha: float, generator: np.random.Generator) -> None:
        self._capacity, self._alpha = capacity, alpha
        self._generator = generator
        self._tree = SumTree(capacity)
        self._max_priority = 1.0
        self._tail = self._head = 0

    def hold(self, tail: int, head: int, td_errors: Floats | None = None) -> None:
        """Zero the priority of what is held no more and give new transitions their first."""
        gone = np.arange(max(self._tail, min(tail, self._head) - self._capacity), min(tail, self._head))
        new = np.arange(max(self._head, tail), head)
        self._tree.set(gone % self._capacity, 0.0)
        self._tree.set(new % self._capacity, self._first_priorities(len(new), td_errors) ** self._alpha)
        self._tail, self._head = tail, head

    def sample(self, count: int, beta: float) -> tuple[Indices, Floats]:
        """One draw from each of `count` equal slices of the total priority."""
        points = (np.arange(count) + self._generator.random(count)) * (self._tree.total / count)
        slots = self._tree.find(points)
        probabilities = self._tree.get(slots) / self._tree.total
        weights = ((self._head - self._tail) * probabilities) ** -beta
        ids = self._tail + (slots - self._tail) % self._capacity
        return ids, (weights / weights.max()).astype(np.float32)

    def update(self, ids: Indices, td_errors: Floats) -> None:
        """Set priorities; ids overwritten since they were sampled are dropped."""
        held = (ids >= self._tail) & (ids < self._head)
        priorities = np.abs(td_errors[held]).astype(np.float64) + MIN_PRIORITY
        if len(priorities):
            self._tree.set(ids[held] % self._capacity, priorities**self._alpha)
            self._max_priority = max(self._max_priority, float(priorities.max()))

    def _first_priorities(self, count: int, td_errors: Floats | None) -> NDArray[np.float64]:
        """Of the newest `count` transitions, whose |TD errors| are the last of `td_errors`."""
        if td_errors is None:
            return np.full(count, self._max_priority)
        told = td_errors[len(td_errors) - count :].astype(np.float64)
        priorities = np.where(np.isfinite(told), np.abs(told) + MIN_PRIORITY, self._max_priority)
        self._max_priority = float(priorities.max(initial=self._max_priority))
        return priorities

    def get_state(self) -> dict[str, Any]:
        """Priorities by slot, the greatest seen, and the range they are for."""
        return {"tree": self._tree.get_state(), "max_priority": self._max_priority, "held": [self._tail, self._head]}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over the priorities of a sampler of the same capacity."""
        self._tree.set_state(state["tree"])
        self._max_priority = float(state["max_priority"])
        self._tail, self._head = (int(bound) for bound in state["held"])

    def check_valid(self) -> None:
        """Raise `AssertionError` unless exactly the held transitions have a priority."""
        self._tree.check_valid()
        held = np.zeros(self._capacity, dtype=np.bool_)
        held[np.arange(self._tail, self._head) % self._capacity] = True
        priorities = self._tree.get(np.arange(self._capacity))
        assert np.array_equal(priorities > 0, held), "priority without a transition, or the reverse"
