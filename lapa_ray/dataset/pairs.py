"""Pairs of consecutive composites, in memory, for training and measuring. A pair never crosses an episode."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.errors import LapaError
from lapa_ray.core.pictures import Composite, Screen
from lapa_ray.dataset.reader import FrameDataset


class PairStore:
    """Composites of whole episodes, addressed by pair: 34 kB a step as palette indices, 101 kB as RGB."""

    def __init__(self, episodes: Iterable[Screen], num_composites: int | None = None, gap: int = 1) -> None:
        """`episodes`: composites uint8 [T+1, height, width] of each; pair t of an episode is (c_t, c_(t+gap)).

        RGB has a further axis of three, here as everywhere below.
        With `num_composites`, the sum of all T+1, they may come one by one, and memory never holds them twice.
        """
        if num_composites is None:
            episodes = list(episodes)
            num_composites = sum(map(len, episodes))
        self.composites, lengths = _gather(episodes, num_composites)
        self._gap = gap
        ends = np.repeat(np.cumsum(lengths), lengths)
        self._firsts = np.flatnonzero(np.arange(num_composites) + gap < ends)

    @classmethod
    def load(
        cls,
        dataset: FrameDataset,
        episode_ids: Sequence[int],
        composite: Composite = "max4",
        max_memory_gb: float = 8.0,
        gap: int = 1,
    ) -> Self:
        """Read `episode_ids`. Raises `LapaError` if they need more than `max_memory_gb`."""
        if (need := cls.gigabytes(dataset, episode_ids)) > max_memory_gb:
            raise LapaError(
                f"{dataset.name}: its pairs need {need:.1f} GB of memory, more than max_memory_gb "
                f"{max_memory_gb:g}; raise it, or stream them (dataset.stream)."
            )
        num_composites = sum(dataset.num_steps(episode) + 1 for episode in episode_ids)
        return cls((dataset.composites(episode, composite) for episode in episode_ids), num_composites, gap)

    @staticmethod
    def gigabytes(dataset: FrameDataset, episode_ids: Sequence[int]) -> float:
        """Memory that the pictures of `episode_ids` take, GB."""
        return sum(dataset.num_steps(episode) + 1 for episode in episode_ids) * dataset.info.screen_bytes / 1e9

    def __len__(self) -> int:
        return len(self._firsts)

    def batch(self, indices: NDArray[np.int64]) -> tuple[Screen, Screen]:
        """Pictures t and t+gap of pairs `indices`, each uint8 [B, height, width]."""
        firsts = self._firsts[indices]
        return self.composites[firsts], self.composites[firsts + self._gap]


def _gather(episodes: Iterable[Screen], total: int) -> tuple[Screen, list[int]]:
    """All pictures in a row, and how many each episode has."""
    pictures = np.empty((0, 0, 0), dtype=np.uint8)
    lengths: list[int] = []
    for episode in episodes:
        if not lengths:
            pictures = np.empty((total, *episode.shape[1:]), dtype=np.uint8)
        position = sum(lengths)
        pictures[position : position + len(episode)] = episode
        lengths.append(len(episode))
    return pictures, lengths
