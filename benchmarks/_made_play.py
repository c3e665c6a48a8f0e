"""Made play: streams of noise pictures in episodes of one length, any rows of which can be had as a chunk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lapa_ray.replay.chunk import Chunk

EPISODE_STEPS = 499
EPISODE_ROWS = EPISODE_STEPS + 1
"""A reset and the steps."""
NUM_PICTURES = 1021
"""Different pictures; a prime, so that episodes begin with different ones."""
NUM_ACTIONS = 9


@dataclass(frozen=True)
class Episode:
    """frames uint8 [T+1, 84, 84]; actions int64 [T]; rewards float32 [T]; it terminates."""

    frames: NDArray[np.uint8]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float32]


class MadePlay:
    """Endless streams, the same for the same seed."""

    def __init__(self, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self._pictures = generator.integers(0, 256, (NUM_PICTURES, 84, 84), dtype=np.uint8)
        self._rewards = generator.normal(size=NUM_PICTURES).astype(np.float32)

    def chunk(self, stream: int, first: int, count: int) -> Chunk:
        """Rows `first` to `first + count` of `stream`; the frames are copied."""
        rows = np.arange(first, first + count)
        pictures = (rows + 37 * stream) % NUM_PICTURES
        return Chunk(
            stream,
            self._pictures[pictures],
            rows % EPISODE_ROWS == 0,
            rows % NUM_ACTIONS,
            self._rewards[pictures],
            rows % EPISODE_ROWS == EPISODE_STEPS,
        )

    def episode(self, index: int) -> Episode:
        """The episode `index` of stream 0."""
        chunk = self.chunk(0, index * EPISODE_ROWS, EPISODE_ROWS)
        return Episode(chunk.frames, chunk.actions[1:], chunk.rewards[1:])
