"""The samples-per-insert limiter: counts in, permissions out. Pure logic; it knows neither buffer nor clock.

After Reverb's `SampleToInsertRatio` (Cassirer et al. 2021), with one deviation: sampling never runs ahead of what the
inserts have earned, and only inserts may run ahead, by `error_buffer`. So a run of n inserts ends with one exact number
of samples, whatever the speeds.
"""

from __future__ import annotations

import math
from typing import Any


class RateLimiter:
    """Keeps samples ≈ `samples_per_insert` × (inserts − `min_size`).

    `min_size` transitions must be in the buffer before the first sample; they earn no samples.
    `error_buffer` is how many earned samples may wait before inserts must wait.
    """

    def __init__(self, samples_per_insert: float, min_size: int, error_buffer: float) -> None:
        if samples_per_insert <= 0 or min_size < 1 or error_buffer < 0:
            raise ValueError("samples_per_insert and min_size must be above 0, error_buffer not below 0")
        self.samples_per_insert = samples_per_insert
        self.min_size = min_size
        self.error_buffer = error_buffer
        self.num_inserts = 0
        self.num_samples = 0
        self._num_free_inserts = min_size
        self._is_refilling = False

    def count_inserts(self, count: int) -> None:
        """Note `count` transitions inserted."""
        self.num_inserts += count
        if self._is_refilling:
            self._num_free_inserts += count

    def count_samples(self, count: int) -> None:
        """Note `count` transitions sampled."""
        self.num_samples += count

    def set_samples(self, total: int) -> None:
        """Note that `total` transitions were sampled in all: samples for updates that are lost were never taken."""
        self.num_samples = total

    def allowed_samples(self, size: int) -> int:
        """How many transitions may be sampled now from a buffer that holds `size`."""
        return max(0, int(self._earned(self.num_inserts)) - self.num_samples) if size >= self.min_size else 0

    def allowed_inserts(self, size: int) -> float:
        """How many inserts keep within the error buffer; infinite while the buffer, which holds `size`, is filling."""
        if size < self.min_size:
            return math.inf
        waiting = self._earned(self.num_inserts) - self.num_samples
        return max(0, math.floor((self.error_buffer - waiting) / self.samples_per_insert))

    def refill(self, size: int) -> None:
        """A buffer was lost, and what is left of it holds `size`: the inserts that fill it again earn no samples.

        Samples that were earned before are taken once it is filled. Inserts end being free by `end_refill`.
        """
        self._num_free_inserts = min(self._num_free_inserts, self.num_inserts)
        self._is_refilling = True
        self.end_refill(size)

    def end_refill(self, size: int) -> None:
        """Inserts earn samples again if the buffer, which holds `size`, is filled."""
        self._is_refilling = self._is_refilling and size < self.min_size
        if not self._is_refilling:
            self._num_free_inserts = max(self._num_free_inserts, self.min_size)

    def num_extra_inserts(self, size: int) -> int:
        """Inserts needed on top of a run's for buffers that had to be filled again, of which this one holds `size`."""
        still_missing = max(0, self.min_size - size) if self._is_refilling else 0
        return max(0, self._num_free_inserts - self.min_size + still_missing)

    def get_state(self) -> dict[str, Any]:
        """The counts; the settings are the caller's."""
        return {
            "inserts": self.num_inserts,
            "samples": self.num_samples,
            "free_inserts": self._num_free_inserts,
            "is_refilling": self._is_refilling,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over the counts of another limiter."""
        self.num_inserts = int(state["inserts"])
        self.num_samples = int(state["samples"])
        self._num_free_inserts = int(state["free_inserts"])
        self._is_refilling = bool(state["is_refilling"])

    def check_valid(self) -> None:
        """Raise `AssertionError` if counts are below 0, or more was sampled than the inserts earned."""
        assert min(self.num_inserts, self.num_samples, self._num_free_inserts) >= 0, "counts below 0"
        assert self._is_refilling or self._num_free_inserts >= self.min_size, "fewer free inserts than fill the buffer"
        assert self.num_samples <= max(0.0, self._earned(self.num_inserts)), "sampled more than earned"

    def _earned(self, num_inserts: int) -> float:
        """Samples that `num_inserts` inserts have earned; negative before the buffer is filled for the first time."""
        return self.samples_per_insert * (num_inserts - self._num_free_inserts)
