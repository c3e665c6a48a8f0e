"""What passes through the replay: chunks of one stream's frames in, batches of transitions out."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Batch:
    """Transitions (obs_tm1, action, reward, terminated, obs_t), whose two stacks share all but one frame.

    windows uint8 [B, k+1, 84, 84], oldest first; actions int64 [B]; rewards float32 [B], raw score; terminated bool
    [B]; weights float32 [B], importance weights in (0, 1]; ids int64 [B], unique for ever.
    """

    windows: NDArray[np.uint8]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    weights: NDArray[np.float32]
    ids: NDArray[np.int64]

    @property
    def obs_tm1(self) -> NDArray[np.uint8]:
        """Stack before the action, uint8 [B, k, 84, 84]."""
        return self.windows[:, :-1]

    @property
    def obs_t(self) -> NDArray[np.uint8]:
        """Stack after it, uint8 [B, k, 84, 84]."""
        return self.windows[:, 1:]
