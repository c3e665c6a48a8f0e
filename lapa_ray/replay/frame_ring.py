"""The ring of frames: each observation frame once, addressed by an id that only grows. NumPy only."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
Indices = NDArray[np.int64]


class FrameRing:
    """The last `capacity` frames. Memory is reserved at once and touched only as frames arrive (`np.empty`)."""

    def __init__(self, capacity: int, shape: tuple[int, ...] = (84, 84)) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity}")
        if capacity * math.prod(shape) > sys.maxsize:  # NumPy's fault would be a ValueError here
            raise MemoryError(f"{capacity} frames of {shape}")
        self.capacity = capacity
        self._frames = np.empty((capacity, *shape), dtype=np.uint8)
        self.next_id = 0

    @property
    def oldest_id(self) -> int:
        """Id of the oldest frame that is still held; equals `next_id` while there is none."""
        return max(0, self.next_id - self.capacity)

    def append(self, frames: Frames) -> int:
        """Add `frames` uint8 [n, height, width], n ≤ capacity, over the oldest ones; returns the id of the first."""
        if len(frames) > self.capacity:
            raise ValueError(f"{len(frames)} frames do not fit a ring of {self.capacity}")
        first = self.next_id
        self._frames[(first + np.arange(len(frames))) % self.capacity] = frames
        self.next_id += len(frames)
        return first

    def gather(self, ids: Indices) -> Frames:
        """Frames uint8 [*ids.shape, height, width]. Raises `IndexError` for an id that is not held."""
        if ids.size and (ids.min() < self.oldest_id or ids.max() >= self.next_id):
            raise IndexError(f"frame id outside [{self.oldest_id}, {self.next_id})")
        return np.take(self._frames, ids % self.capacity, axis=0)

    def get_state(self) -> dict[str, Any]:
        """Frames by slot (a view, not a copy: 7 GB would not fit twice) and the next id."""
        return {"frames": self._frames[: min(self.next_id, self.capacity)], "next_id": self.next_id}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over the frames of a ring of the same capacity and shape; `frames` may be a memory map."""
        frames, next_id = state["frames"], int(state["next_id"])
        if frames.shape[1:] != self._frames.shape[1:] or len(frames) != min(next_id, self.capacity):
            raise ValueError(f"state of {len(frames)} frames of {frames.shape[1:]} does not fit this ring")
        self._frames[: len(frames)] = frames
        self.next_id = next_id

    def check_valid(self) -> None:
        """Raise `AssertionError` if ids and slots disagree."""
        assert self.next_id >= 0
        assert 0 <= self.next_id - self.oldest_id <= self.capacity
