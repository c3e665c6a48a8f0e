"""The store of transitions: chunks of interleaved streams in, windows of frames out. NumPy only.

A frame is kept once; a transition holds the slots of its k+n frames and assumes no adjacency. Ids of frames and of
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
from lapa_ray.replay.n_step import ROW, Rows, Steps, ended_steps, needed_past, rows_of, unknown_past, windows_of

Indices = NDArray[np.int64]
Floats = NDArray[np.float32]
MIN_SPARE_FRAMES = 4096
COLUMNS = ("windows", "actions", "rewards", "discounts")


def spare_frames(capacity: int) -> int:
    """Frames to hold beyond `capacity`: reset frames, and the recent past of streams that wait their turn."""
    return max(capacity // 50, MIN_SPARE_FRAMES)


def least_spare_frames(frame_stack: int, n_step: int) -> int:
    """The fewest spare frames with which a stream's past is renewed before it is overwritten."""
    return 4 * (frame_stack + n_step)


class TransitionStore:
    """The last `capacity` transitions of `n_step` steps with stacks of `frame_stack` frames.

    1,000,000 transitions of 8-stacks and n = 3 take 7.3 GB: 7,056 B a frame, with 2 % to spare, and 76 B beside it. A
    step becomes a transition once its horizon of n steps has ended; until then it waits, across chunks. A stream that
    was silent while ¾ of `spare` other frames arrived gets the last frames that it needs copied to the ring's new end,
    else its next transitions would keep frames alive that must make room. If even those are gone, its steps are skipped
    (and counted) until its stack is whole again or it resets.
    """

    def __init__(
        self,
        capacity: int,
        frame_stack: int,
        shape: tuple[int, ...] = (84, 84),
        spare: int | None = None,
        *,
        n_step: int = 1,
        gamma: float,
    ) -> None:
        spare = spare_frames(capacity) if spare is None else spare
        if frame_stack < 1 or n_step < 1 or capacity < n_step:
            raise ValueError("frame_stack and n_step must be at least 1, capacity at least n_step")
        if spare < least_spare_frames(frame_stack, n_step):
            raise ValueError(f"spare must be at least {least_spare_frames(frame_stack, n_step)}")
        self.capacity, self.frame_stack, self.n_step, self._gamma = capacity, frame_stack, n_step, gamma
        self.frames = FrameRing(capacity + spare, shape)
        self._max_age = spare * 3 // 4
        self.tail = self.head = 0
        self.num_skipped = 0
        self._windows = np.empty((capacity, frame_stack + n_step), dtype=np.int32)
        self._actions = np.empty(capacity, dtype=np.int64)
        self._rewards = np.empty(capacity, dtype=np.float32)
        self._discounts = np.empty(capacity, dtype=np.float32)
        # By frame slot, the last transition that needs the frame: overwriting the frame evicts up to that one.
        self._last_user = np.full(self.frames.capacity, -1, dtype=np.int64)
        self._streams: dict[int, Rows] = {}

    def __len__(self) -> int:
        return self.head - self.tail

    def append(self, chunks: Sequence[Chunk]) -> Floats:
        """Add the transitions whose horizons end in `chunks`. Read `head` and `tail` for what changed.

        Returns the first |TD errors| float32 [n] of the n new transitions, NaN where a chunk tells no Q-values. Raises
        `ValueError` for a chunk whose columns differ in length, before anything is stored.
        """
        for chunk in chunks:
            chunk.check_lengths()
        # So that neither a part's transitions nor its frames overwrite each other, however long the chunk is.
        size = min(self.capacity - self.n_step + 1, self._max_age)
        td_errors = [self._append(part) for chunk in chunks for part in chunk.parts(size)]
        return np.concatenate([np.empty(0, dtype=np.float32), *td_errors])

    def columns(self, ids: Indices) -> tuple[NDArray[np.int32], Indices, Floats, Floats]:
        """Frame slots int32 [m, k+n], actions, rewards and discounts of held transitions `ids` int64 [m]."""
        if ids.size and (ids.min() < self.tail or ids.max() >= self.head):
            raise IndexError(f"transition id outside [{self.tail}, {self.head})")
        slots = ids % self.capacity
        windows = self._windows.take(slots, axis=0)
        return windows, self._actions[slots], self._rewards[slots], self._discounts[slots]

    def gather(self, ids: Indices) -> tuple[NDArray[np.uint8], Indices, Floats, Floats]:
        """The same, but windows uint8 [m, k+n, 84, 84] in place of slots."""
        slots, actions, rewards, discounts = self.columns(ids)
        return self.frames.take(slots), actions, rewards, discounts

    def get_state(self) -> dict[str, Any]:
        """Arrays (views, cut to what is filled) and counters."""
        filled = min(self.head, self.capacity)
        return {
            "frames": self.frames.get_state(),
            "columns": {name: column[:filled] for name, column in self._columns().items()},
            "last_user": self._last_user[: min(self.frames.next_id, self.frames.capacity)],
            "counters": {"tail": self.tail, "head": self.head, "num_skipped": self.num_skipped, "n_step": self.n_step},
            "streams": {str(stream): past for stream, past in self._streams.items()},
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over the state of a store of the same capacity, stack and n; `ValueError` or `KeyError` if it is not."""
        counters, columns, last_user = state["counters"], state["columns"], state["last_user"]
        shape = (min(int(counters["head"]), self.capacity), self.frame_stack + self.n_step)
        if columns["windows"].shape != shape or int(counters["n_step"]) != self.n_step or {*columns} != {*COLUMNS}:
            raise ValueError("state of a store of another capacity, frame stack or n-step")
        self.frames.set_state(state["frames"])
        for name, column in self._columns().items():
            column[: len(columns[name])] = columns[name]
        self._last_user[: len(last_user)] = last_user
        self._last_user[len(last_user) :] = -1
        self.tail, self.head = int(counters["tail"]), int(counters["head"])
        self.num_skipped = int(counters["num_skipped"])
        streams = state.get("streams", {})
        self._streams = {int(stream): np.array(past, dtype=ROW) for stream, past in streams.items()}

    def check_valid(self) -> None:
        """Raise `AssertionError` if a held transition needs a frame that is gone, or counters disagree."""
        self.frames.check_valid()
        assert 0 <= self.tail <= self.head
        assert len(self) <= self.capacity, "more transitions than capacity"
        held = np.arange(self.tail, self.head)
        slots = self._windows[held % self.capacity]
        assert np.all(self.frames.ids(slots) >= 0), "a held transition needs a frame that never came"
        assert np.all(np.diff(self.frames.ids(slots), axis=1) >= 0), "a held transition lost a frame"
        assert np.all(self._last_user[slots] >= held[:, None]), "a frame does not know who needs it"
        assert np.all(self._last_user < self.head), "a frame is needed by a transition that never came"

    def _columns(self) -> dict[str, NDArray[Any]]:
        return {name: getattr(self, f"_{name}") for name in COLUMNS}

    def _append(self, chunk: Chunk) -> Floats:
        past = self._renewed(self._past(chunk.stream))
        rows = np.concatenate([past, rows_of(chunk, self._append_frames(chunk.frames))])
        self._streams[chunk.stream] = needed_past(rows, self.frame_stack, self.n_step)
        steps = ended_steps(rows, len(past), self.n_step, self._gamma)
        frames = windows_of(rows, steps, self.frame_stack, self.n_step)
        kept = np.flatnonzero(frames[:, 0] >= 0)
        self.num_skipped += len(frames) - len(kept)
        self._write(self.frames.slots(frames[kept]), rows["action"][steps.first[kept]], steps, kept)
        return steps.td_errors[kept]

    def _write(self, windows: NDArray[np.int32], actions: Indices, steps: Steps, kept: Indices) -> None:
        ids = np.arange(self.head, self.head + len(kept))
        self.head += len(kept)
        self.tail = max(self.tail, self.head - self.capacity)
        slots = ids % self.capacity
        self._windows[slots], self._actions[slots] = windows, actions
        self._rewards[slots], self._discounts[slots] = steps.rewards[kept], steps.discounts[kept]
        # A frame moves from the last column to the first as transitions grow newer: the newest one must write last.
        for column in reversed(windows.T):
            self._last_user[column] = ids

    def _renewed(self, past: Rows) -> Rows:
        """`past` itself if it is recent; otherwise with ids of copies of its frames, −1 for those that are gone."""
        known = past["frame"][past["frame"] >= 0]
        if not len(known) or known[0] >= self.frames.next_id - self._max_age:
            return past
        held = past["frame"] >= self.frames.oldest_id
        if not held.any():
            return unknown_past(len(past))
        ids, places = np.unique(past["frame"][held], return_inverse=True)
        renewed = past.copy()
        renewed["frame"] = -1
        renewed["frame"][held] = self._append_frames(self.frames.take(self.frames.slots(ids))) + places
        return renewed

    def _append_frames(self, frames: NDArray[np.uint8]) -> int:
        """Add frames, after evicting every transition that needs one of those they overwrite."""
        slots = (self.frames.next_id + np.arange(len(frames))) % self.frames.capacity
        if len(slots):
            self.tail = max(self.tail, int(self._last_user[slots].max()) + 1)
        self._last_user[slots] = -1
        return self.frames.append(frames)

    def _past(self, stream: int) -> Rows:
        """The last rows of the stream that its next transitions depend on."""
        if stream not in self._streams:
            oldest = self.frames.oldest_id
            self._streams = {name: past for name, past in self._streams.items() if past["frame"][-1] >= oldest}
        return self._streams.get(stream, unknown_past(self.frame_stack + self.n_step - 1))
