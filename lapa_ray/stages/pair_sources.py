"""Where a training's pairs come from: memory where they fit, a stream from the shards where they do not.

Either gives the same pairs as palette indices; the order is another one, and each is the same again after a stop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.errors import LapaError
from lapa_ray.core.pictures import Composite, Screen
from lapa_ray.core.seeds import generator_for
from lapa_ray.dataset.pairs import PairStore
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.stream import Draw, PictureStream
from lapa_ray.stages.fit_task import Turn

WINDOW_GB = 0.5
"""Pictures from which a stream draws, at most: more would mix little better and delay the start."""

Pair = tuple[Screen, Screen]
Chances = Callable[[FrameDataset, Sequence[int], Screen], NDArray[np.float64]]
"""Dataset, episode ids and their composites in a row → chance of each pair, summing to 1."""


class TrainingPairs(Protocol):
    """Pairs to train on: those of one worker."""

    num_items: int
    gigabytes: float
    """Memory that its pictures take, at most."""

    def batch(self, turn: Turn) -> Pair:
        """Pictures t and t+1 of an update, each uint8 [B, *screen_shape]."""


class StoredPairs:
    """The pairs of the worker's own episodes, in its memory, drawn as the training loop says."""

    def __init__(self, store: PairStore) -> None:
        self.num_items, self.gigabytes = len(store), store.composites.nbytes / 1e9
        self._store = store

    def batch(self, turn: Turn) -> Pair:
        """See `TrainingPairs`."""
        return self._store.batch(turn.items)


class BalancedPairs(StoredPairs):
    """The same pairs, each drawn with a chance of its own, again and again: an epoch is as many draws as pairs."""

    def __init__(self, store: PairStore, chances: NDArray[np.float64], draw: Draw) -> None:
        """`chances` [pairs] sum to 1."""
        super().__init__(store)
        self._bounds, self._draw = np.cumsum(chances), draw

    def batch(self, turn: Turn) -> Pair:
        """See `TrainingPairs`."""
        generator = generator_for(self._draw.seed, "pairs", turn.epoch, turn.batch, self._draw.rank)
        drawn = np.searchsorted(self._bounds, generator.random(len(turn.items)) * self._bounds[-1], side="right")
        return self._store.batch(drawn)


class StreamedPairs:
    """The worker's share of a stream of all episodes, which has an order of its own."""

    def __init__(self, stream: PictureStream, gigabytes: float) -> None:
        self.num_items, self.gigabytes = stream.num_items // stream.draw.world_size, gigabytes
        self._stream = stream

    def batch(self, turn: Turn) -> Pair:
        """See `TrainingPairs`."""
        frame_t, frame_t1 = self._stream.at(turn.epoch, turn.batch).pictures
        return frame_t, frame_t1


def training_pairs(
    dataset: FrameDataset, episode_ids: Sequence[int], draw: Draw, max_memory_gb: float, chances: Chances | None = None
) -> TrainingPairs:
    """The pairs of a worker. All workers store, or all stream: as the largest of their shares demands.

    `chances` of a worker's pairs, where they are not all alike. Raises `LapaError` if there are fewer episodes than
    workers, or if pairs that are not all alike do not fit the memory.
    """
    shares = [episode_ids[rank :: draw.world_size] for rank in range(draw.world_size)]
    if not all(shares):
        raise LapaError(f"{dataset.name}: fewer training episodes than the {draw.world_size} workers.")
    if max(PairStore.gigabytes(dataset, share) for share in shares) <= max_memory_gb:
        store = PairStore.load(dataset, shares[draw.rank], draw.composite, max_memory_gb)
        if chances is None:
            return StoredPairs(store)
        return BalancedPairs(store, chances(dataset, shares[draw.rank], store.composites), draw)
    if chances is not None:
        raise LapaError(
            f"--pairs.max_memory_gb {max_memory_gb:g}: pairs of different chances are drawn from memory, and these do "
            "not fit it; raise it, or use --pairs.balance none."
        )
    window = min(max_memory_gb, WINDOW_GB)
    return StreamedPairs(PictureStream(dataset, episode_ids, draw, window), window)


class ValidationPairs:
    """All pairs of a split, in order, as often as they are asked for."""

    def __init__(
        self, dataset: FrameDataset, episode_ids: Sequence[int], composite: Composite, max_memory_gb: float
    ) -> None:
        self._dataset, self._episode_ids, self._composite = dataset, episode_ids, composite
        self._store: PairStore | None = None
        if PairStore.gigabytes(dataset, episode_ids) <= max_memory_gb:
            self._store = PairStore.load(dataset, episode_ids, composite, max_memory_gb)
        self.num_items = sum(dataset.num_steps(episode) for episode in episode_ids)

    def batches(self, size: int) -> Iterator[Pair]:
        """Pictures t and t+1, `size` pairs at a time, each uint8 [B, *screen_shape]."""
        if self._store is not None:
            for start in range(0, len(self._store), size):
                yield self._store.batch(np.arange(start, min(start + size, len(self._store))))
            return
        draw = Draw(size, composite=self._composite, shuffle=False)
        with PictureStream(self._dataset, self._episode_ids, draw, WINDOW_GB) as stream:
            for batch in stream:
                frame_t, frame_t1 = batch.pictures
                yield frame_t, frame_t1
