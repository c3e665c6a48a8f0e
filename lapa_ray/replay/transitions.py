"""The store of transitions: chunks of interleaved streams in, windows of frames out. NumPy only.

A frame is kept once; a transition holds the ids of its k+1 frames and assumes no adjacency. Ids of frames and of
transitions only grow, so that something overwritten is told from what took its place. Held transitions are always the
ids [tail, head): eviction is from the tail. It does not know how transitions are chosen: that is a sampler's matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lapa_ray.replay.chunk import Chunk
from lapa_ray.replay.frame_ring import FrameRing

Indices = NDArray[np.int64]
MIN_SPARE_FRAMES = 4096


def spare_frames(capacity: int) -> int:
    """Frames to hold beyond `capacity`: reset frames, and the recent past of streams that wait their turn."""
    return max(capacity // 50, MIN_SPARE_FRAMES)


class TransitionStore:
    """The last `capacity` transitions with stacks of `frame_stack` frames.

    1,000,000 transitions of 8-stacks take 7.3 GB. A stream that was silent while ¾ of `spare` other frames arrived gets
    its last k frames copied to the ring's new end, else its next transitions would keep frames alive that must make
    room. If even those are gone, its steps are skipped (and counted) until its stack is whole again or it resets.
    """

    def __init__(
        self,
        capacity: int,
        frame_stack: int,
        shape: tuple[int, ...] = (84, 84),
        spare: int | None = None,
        gamma: float = 0.99,
    ) -> None:
        spare = spare_frames(capacity) if spare is None else spare
        if capacity < 1 or frame_stack < 1 or spare < 4 * (frame_stack + 1):
            raise ValueError("capacity and frame_stack must be at least 1, spare at least 4 × (frame_stack + 1)")
        self.capacity, self.frame_stack = capacity, frame_stack
        self.frames = FrameRing(capacity + spare, shape)
        self._max_age = spare * 3 // 4
        self.tail = self.head = 0
        self.num_skipped = 0
        self._gamma = np.float32(gamma)
        self._windows = np.empty((capacity, frame_stack + 1), dtype=np.int64)
        self._actions = np.empty(capacity, dtype=np.int64)
        self._rewards = np.empty(capacity, dtype=np.float32)
        self._terminated = np.empty(capacity, dtype=np.bool_)
        # By frame slot, the last transition that needs the frame: overwriting the frame evicts up to that one.
        self._last_user = np.full(self.frames.capacity, -1, dtype=np.int64)
        self._streams: dict[int, Indices] = {}

    def __len__(self) -> int:
        return self.head - self.tail

    def append(self, chunks: Sequence[Chunk]) -> int:
        """Add the transitions of `chunks`; returns how many steps they held. Read `head` and `tail` for what changed.

        Raises `ValueError` for a chunk whose columns differ in length.
        """
        for chunk in chunks:
            _check_lengths(chunk)
        for chunk in chunks:
            for part in self._parts(chunk):
                self._append(part)
        return sum(chunk.num_steps for chunk in chunks)

    def gather(self, ids: Indices) -> tuple[NDArray[np.uint8], Indices, NDArray[np.float32], NDArray[np.float32]]:
        """Windows uint8 [n, k+1, 84, 84], actions, rewards and discounts of held transitions `ids` int64 [n]."""
        if ids.size and (ids.min() < self.tail or ids.max() >= self.head):
            raise IndexError(f"transition id outside [{self.tail}, {self.head})")
        slots = ids % self.capacity
        windows = self.frames.gather(self._windows[slots])
        discounts = np.where(self._terminated[slots], np.float32(0), self._gamma)
        return windows, self._actions[slots], self._rewards[slots], discounts

    def get_state(self) -> dict[str, Any]:
        """Arrays (views, cut to what is filled) and counters."""
        filled = min(self.head, self.capacity)
        return {
            "frames": self.frames.get_state(),
            "columns": {name: column[:filled] for name, column in self._columns().items()},
            "last_user": self._last_user[: min(self.frames.next_id, self.frames.capacity)],
            "counters": {"tail": self.tail, "head": self.head, "num_skipped": self.num_skipped},
            "streams": {str(stream): history for stream, history in self._streams.items()},
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over the state of a store of the same capacity and stack."""
        counters, last_user = state["counters"], state["last_user"]
        if state["columns"]["windows"].shape != (min(int(counters["head"]), self.capacity), self.frame_stack + 1):
            raise ValueError("state of a store of another capacity or frame stack")
        self.frames.set_state(state["frames"])
        for name, column in self._columns().items():
            column[: len(state["columns"][name])] = state["columns"][name]
        self._last_user[: len(last_user)] = last_user
        self.tail, self.head = int(counters["tail"]), int(counters["head"])
        self.num_skipped = int(counters["num_skipped"])
        self._streams = {int(stream): np.array(history) for stream, history in state.get("streams", {}).items()}

    def check_valid(self) -> None:
        """Raise `AssertionError` if a held transition needs a frame that is gone, or counters disagree."""
        self.frames.check_valid()
        assert 0 <= self.tail <= self.head
        assert len(self) <= self.capacity, "more transitions than capacity"
        held = np.arange(self.tail, self.head) % self.capacity
        assert np.all(self._windows[held] >= self.frames.oldest_id), "a held transition lost a frame"
        assert np.all(self._windows[held] < self.frames.next_id), "a held transition needs a frame that never came"
        assert np.all(np.diff(self._windows[held], axis=1) >= 0), "frames of a window out of order"

    def _columns(self) -> dict[str, NDArray[Any]]:
        names = ("windows", "actions", "rewards", "terminated")
        return {name: getattr(self, f"_{name}") for name in names}

    def _parts(self, chunk: Chunk) -> list[Chunk]:
        """The chunk in parts that fit the store, however long it is."""
        size = min(self.capacity, self._max_age)
        if len(chunk) <= size:
            return [chunk]
        bounds = range(0, len(chunk), size)
        return [Chunk(chunk.stream, *(c[b : b + size] for c in _chunk_columns(chunk))) for b in bounds]

    def _append(self, chunk: Chunk) -> None:
        past = self._renewed(self._past(chunk.stream))
        first = self._append_frames(chunk.frames)
        windows = self._windows_of(chunk, past, first)
        is_step = ~chunk.starts
        kept = np.flatnonzero(is_step & (windows[:, 0] >= 0))
        self.num_skipped += int(is_step.sum()) - len(kept)
        ids = self._reserve(len(kept))
        slots = ids % self.capacity
        self._windows[slots] = windows[kept]
        self._actions[slots] = chunk.actions[kept]
        self._rewards[slots] = chunk.rewards[kept]
        self._terminated[slots] = chunk.terminated[kept]
        # A frame moves from the last column to the first as transitions grow newer: the newest one must write last.
        for column in reversed(windows[kept].T):
            self._last_user[column % self.frames.capacity] = ids

    def _renewed(self, past: Indices) -> Indices:
        """`past` itself if it is recent; otherwise ids of copies of its frames, −1 for those that are gone."""
        if past[0] >= self.frames.next_id - self._max_age or past[-1] < 0:
            return past
        held = past >= self.frames.oldest_id
        ids, places = np.unique(past[held], return_inverse=True)
        renewed = np.full_like(past, -1)
        renewed[held] = self._append_frames(self.frames.gather(ids)) + places
        return renewed

    def _append_frames(self, frames: NDArray[np.uint8]) -> int:
        """Add frames, after evicting every transition that needs one of those they overwrite."""
        slots = (self.frames.next_id + np.arange(len(frames))) % self.frames.capacity
        if len(slots):
            self.tail = max(self.tail, int(self._last_user[slots].max()) + 1)
        self._last_user[slots] = -1
        return self.frames.append(frames)

    def _reserve(self, count: int) -> Indices:
        ids = np.arange(self.head, self.head + count)
        self.head += count
        self.tail = max(self.tail, self.head - self.capacity)
        return ids

    def _windows_of(self, chunk: Chunk, past: Indices, first: int) -> Indices:
        """Frame ids int64 [n, k+1] of the window that ends in each row; ids below 0 where the past is unknown."""
        k, n = self.frame_stack, len(chunk)
        known = np.concatenate([past, first + np.arange(n)])
        rows = np.arange(n)
        # Row i's window is known[i : i+k+1]; nothing before the last start at or before row i−1 may be in it.
        last_start = np.maximum.accumulate(np.where(chunk.starts, rows + k, 0))
        start = np.concatenate([[0], last_start[:-1]])[:n]
        windows = known[np.maximum(rows[:, None] + np.arange(k + 1), start[:, None])]
        if n:
            self._streams[chunk.stream] = known[np.maximum(np.arange(n, n + k), last_start[-1])]
        return windows

    def _past(self, stream: int) -> Indices:
        """Ids of the last k frames of the stream, padded at its episode's start; −1 for a stream never seen."""
        if stream not in self._streams:
            oldest = self.frames.oldest_id
            self._streams = {name: past for name, past in self._streams.items() if past[-1] >= oldest}
        return self._streams.get(stream, np.full(self.frame_stack, -1, dtype=np.int64))


def _chunk_columns(chunk: Chunk) -> tuple[Any, ...]:
    return chunk.frames, chunk.starts, chunk.actions, chunk.rewards, chunk.terminated


def _check_lengths(chunk: Chunk) -> None:
    lengths = {len(column) for column in _chunk_columns(chunk)}
    if len(lengths) != 1:
        raise ValueError(f"stream {chunk.stream}: columns of different lengths {sorted(lengths)}")
