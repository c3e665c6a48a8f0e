"""The ring of frames: each observation frame once, addressed by an id that only grows. NumPy only."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lapa_ray.replay.chunk import FrameBlock

Frames = NDArray[np.uint8]
Indices = NDArray[np.int64]
Slots = NDArray[np.int32]
MAX_CAPACITY = 2**31 - 1
"""Slots are int32; so many frames of 84×84 would take 15 TB."""


class FrameRing:
    """The last `capacity` frames. Memory is reserved at once and touched only as frames arrive (`np.empty`).

    A frame lies in the slot id mod capacity: int32, half the size of an id, and all that it takes to read a frame.
    """

    def __init__(self, capacity: int, shape: tuple[int, ...] = (84, 84)) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity}")
        if capacity * math.prod(shape) > sys.maxsize or capacity > MAX_CAPACITY:  # NumPy's fault would be a ValueError
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
        first, slot = self.next_id, self.next_id % self.capacity
        at_end = min(len(frames), self.capacity - slot)
        self._frames[slot : slot + at_end] = frames[:at_end]
        self._frames[: len(frames) - at_end] = frames[at_end:]
        self.next_id += len(frames)
        return first

    def slots(self, ids: Indices) -> Slots:
        """Where the frames `ids` lie, int32 of the same shape. Raises `IndexError` for an id that is not held."""
        if ids.size and (ids.min() < self.oldest_id or ids.max() >= self.next_id):
            raise IndexError(f"frame id outside [{self.oldest_id}, {self.next_id})")
        return (ids % self.capacity).astype(np.int32)

    def ids(self, slots: Slots) -> Indices:
        """Ids int64 of the frames that lie in `slots` now; below 0 where none does yet."""
        newest = self.next_id - 1
        return newest - (newest - slots.astype(np.int64)) % self.capacity

    def take(self, slots: Slots) -> Frames:
        """Frames uint8 [*slots.shape, height, width]. Raises `IndexError` for a slot beyond the capacity."""
        return self._frames.take(slots, axis=0)

    def block_since(self, frame_id: int, max_frames: int) -> FrameBlock:
        """The frames from `frame_id` on that are still held, at most `max_frames`; copied."""
        first = max(frame_id, self.oldest_id)
        ids = np.arange(first, min(first + max_frames, self.next_id))
        return FrameBlock(frame_id, first, self.take(self.slots(ids)), self.capacity)

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
