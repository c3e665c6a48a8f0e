"""Pairs of consecutive composites, in memory, for training and measuring. A pair never crosses an episode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.errors import LapaError
from lapa_ray.core.pictures import Composite, Screen
from lapa_ray.dataset.reader import FrameDataset


class PairStore:
    """Composites of whole episodes as palette indices, 34 kB a step, addressed by pair."""

    def __init__(self, episodes: Sequence[Screen]) -> None:
        """`episodes`: composites uint8 [T+1, height, width] of each; pair t of an episode is (c_t, c_t+1)."""
        self.composites = np.concatenate(episodes)
        lengths = np.array([len(episode) for episode in episodes])
        is_first = np.ones(len(self.composites), dtype=np.bool_)
        is_first[np.cumsum(lengths) - 1] = False
        self._firsts = np.flatnonzero(is_first)

    @classmethod
    def load(
        cls,
        dataset: FrameDataset,
        episode_ids: Sequence[int],
        composite: Composite = "max4",
        max_memory_gb: float = 8.0,
    ) -> Self:
        """Read `episode_ids`. Raises `LapaError` if they need more than `max_memory_gb`."""
        num_composites = sum(dataset.num_steps(episode) + 1 for episode in episode_ids)
        need = num_composites * dataset.info.height * dataset.info.width / 1e9
        if need > max_memory_gb:
            raise LapaError(
                f"{dataset.artefact.path}: its pairs need {need:.1f} GB of memory, more than max_memory_gb "
                f"{max_memory_gb:g}; raise it, use more workers, or record fewer episodes."
            )
        return cls([dataset.composites(episode, composite) for episode in episode_ids])

    def __len__(self) -> int:
        return len(self._firsts)

    def batch(self, indices: NDArray[np.int64]) -> tuple[Screen, Screen]:
        """Pictures t and t+1 of pairs `indices`, each uint8 [B, height, width]."""
        firsts = self._firsts[indices]
        return self.composites[firsts], self.composites[firsts + 1]
