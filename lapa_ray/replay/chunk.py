"""What passes through the replay: chunks of one stream's frames in, batches of transitions out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive observation frames of one stream (one environment of one worker), each sent exactly once.

    Row i is a frame and how it was reached: by a reset where `starts[i]` (the other columns mean nothing there),
    otherwise by `actions[i]`, which gave `rewards[i]` and `terminated[i]`: what is to be learnt from, so that rewards
    are clipped and shaped already, and a lost life may count as terminal though the frames go on. The next chunk of
    the stream goes on where this one ends.

    Two optional columns give transitions their first priority: `max_q[i]`, the greatest Q-value of the stack that ends
    in row i, and `chosen_q[i]`, the Q-value of `actions[i]` in the stack that ends in row i−1 (0 at resets).

    frames uint8 [n, 84, 84]; starts bool [n]; actions int64 [n]; rewards float32 [n]; terminated bool [n]; max_q and
    chosen_q float32 [n].
    """

    stream: int
    frames: NDArray[np.uint8]
    starts: NDArray[np.bool_]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    max_q: NDArray[np.float32] | None = None
    chosen_q: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def num_steps(self) -> int:
        """Agent steps in the chunk: its rows that are not resets."""
        return int(np.count_nonzero(~self.starts))

    def parts(self, size: int) -> list[Chunk]:
        """The chunk itself, or, if it is longer than `size` rows, parts of at most that many."""
        if len(self) <= size:
            return [self]
        return [self._rows(slice(first, first + size)) for first in range(0, len(self), size)]

    def check_lengths(self) -> None:
        """Raise `ValueError` if the columns differ in length."""
        lengths = {len(column) for column in self._columns if column is not None}
        if len(lengths) != 1:
            raise ValueError(f"stream {self.stream}: columns of different lengths {sorted(lengths)}")

    def _rows(self, part: slice) -> Chunk:
        columns: list[Any] = [None if column is None else column[part] for column in self._columns]
        return Chunk(self.stream, *columns)

    @property
    def _columns(self) -> tuple[Any, ...]:
        required = (self.frames, self.starts, self.actions, self.rewards, self.terminated)
        return (*required, self.max_q, self.chosen_q)


@dataclass(frozen=True, slots=True)
class Batch:
    """Transitions (obs_tm1, action, n-step return, discount, obs_t); the two stacks share all frames but n at each end.

    windows uint8 [B, k+n, 84, 84], oldest first; where an episode terminated within the n steps, its last frame fills
    the rest. actions int64 [B]. rewards float32 [B], the sum of γ^j × the reward of step j over the n steps or up to
    the terminal one. discounts float32 [B], γ^n, or 0 where the episode terminated: the target is rewards + discounts ×
    the value of obs_t. weights float32 [B], importance weights in (0, 1]. ids int64 [B], unique for ever.
    """

    windows: NDArray[np.uint8]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float32]
    discounts: NDArray[np.float32]
    weights: NDArray[np.float32]
    ids: NDArray[np.int64]
    n_step: int = 1

    @property
    def obs_tm1(self) -> NDArray[np.uint8]:
        """Stack before the action, uint8 [B, k, 84, 84]."""
        return self.windows[:, : -self.n_step]

    @property
    def obs_t(self) -> NDArray[np.uint8]:
        """Stack n steps later, uint8 [B, k, 84, 84]; means nothing where the discount is 0."""
        return self.windows[:, self.n_step :]


@dataclass(frozen=True, slots=True)
class SlotBatch:
    """A batch without its frames: `slots` int32 [B, k+n] say where in the ring they lie. The rest is as in `Batch`."""

    slots: NDArray[np.int32]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float32]
    discounts: NDArray[np.float32]
    weights: NDArray[np.float32]
    ids: NDArray[np.int64]
    n_step: int = 1

    def with_windows(self, windows: Any) -> Batch:
        """The batch, with `windows` uint8 [B, k+n, 84, 84] from the ring or from a mirror of it."""
        columns = (self.actions, self.rewards, self.discounts, self.weights, self.ids)
        return Batch(windows, *columns, n_step=self.n_step)


@dataclass(frozen=True, slots=True)
class FrameBlock:
    """Frames uint8 [n, 84, 84] for a mirror of their ring, which has `capacity` slots.

    They were asked for from `since_id` on; those before `first_id` are gone, and needed by no transition.
    """

    since_id: int
    first_id: int
    frames: NDArray[np.uint8]
    capacity: int

    @property
    def end_id(self) -> int:
        """Id of the frame that comes next."""
        return self.first_id + len(self.frames)
