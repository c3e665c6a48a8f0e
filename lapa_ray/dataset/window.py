"""The window of a stream: chunks decoded ahead by threads into a few reused slots, and pictures copied out of them.

Follows a plan and decides nothing: chunks are decoded in the order in which the plan needs them, and their slots are
given to others when their last item is drawn.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Executor, Future, wait
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.pictures import Screen
from lapa_ray.dataset.plan import Chunk, Plan

AHEAD = 4
"""Chunks decoded before they are needed."""


class Decoder(Protocol):
    """Where pictures come from."""

    picture_shape: tuple[int, ...]

    def decode(self, episode_id: int, first: int, out: Screen) -> None:
        """Fill `out` with the episode's pictures from `first` on; called from several threads."""


class Slots:
    """Memory for decoded chunks, of `capacity` pictures each; it is touched, and so taken, only where it is used."""

    def __init__(self, decoder: Decoder, capacity: int) -> None:
        self._decoder, self._capacity = decoder, capacity
        self._pictures = np.empty((0, *decoder.picture_shape), dtype=np.uint8)
        self._names = np.empty((0, 2), dtype=np.int64)
        self.free: list[int] = []
        self.num_slots = 0

    def reserve(self, num_slots: int) -> None:
        """Have `num_slots` at least; all must be free if there are fewer."""
        if num_slots <= self.num_slots:
            return
        rows = num_slots * self._capacity
        self._pictures = np.empty((rows, *self._decoder.picture_shape), dtype=np.uint8)
        self._names = np.empty((rows, 2), dtype=np.int64)
        self.free, self.num_slots = list(range(num_slots)), num_slots

    def fill(self, slot: int, chunk: Chunk, reach: int) -> None:
        """Decode `chunk` into `slot`."""
        row = slot * self._capacity
        for span in chunk:
            stop = row + span.count + reach
            self._names[row:stop, 0] = span.episode_id
            self._names[row:stop, 1] = np.arange(span.first, span.first + stop - row)
            self._decoder.decode(span.episode_id, span.first, self._pictures[row:stop])
            row = stop

    def rows(self, slots: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where pictures `rows` of `slots` lie."""
        return slots * self._capacity + rows

    def copy(self, rows: NDArray[np.int64], out: Screen) -> None:
        """Copy the pictures at `rows` to `out`."""
        # `clip` because `raise` copies to a buffer first; the rows are ours.
        np.take(self._pictures, rows, axis=0, out=out, mode="clip")

    def names(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Episode id and number in its episode of the pictures at `rows`."""
        episode_ids, numbers = self._names[rows].T
        return episode_ids, numbers


class Window:
    """An epoch's chunks passing through the slots, from batch `first_batch` on."""

    def __init__(
        self, plan: Plan, bounds: NDArray[np.int64], first_batch: int, reach: int, slots: Slots, executor: Executor
    ) -> None:
        self._plan, self._bounds, self._reach, self._slots, self._executor = plan, bounds, reach, slots, executor
        first, last = plan.uses(int(bounds[first_batch]))
        needed = np.flatnonzero(first < bounds[-1])
        self._waiting = deque(needed[np.argsort(first[needed], kind="stable")].tolist())
        self._leaving = deque(needed[np.argsort(last[needed], kind="stable")].tolist())
        self._last = last
        self._slot = np.full(len(plan.chunks), -1, dtype=np.int64)
        self._decoding: dict[int, Future[None]] = {}
        self.num_slots = plan.most_alive(bounds) + AHEAD

    @property
    def is_waiting(self) -> bool:
        """Whether chunks wait for a slot."""
        return bool(self._waiting)

    def decode_ahead(self, num_chunks: int | None = None) -> None:
        """Have chunks decoded into free slots, in the order in which they are needed; `num_chunks` at once at most."""
        free = self._slots.free
        while self._waiting and free and (num_chunks is None or len(self._decoding) < num_chunks):
            chunk, slot = self._waiting.popleft(), free.pop()
            self._slot[chunk] = slot
            fill = self._slots.fill
            self._decoding[chunk] = self._executor.submit(fill, slot, self._plan.chunks[chunk], self._reach)

    def rows(self, batch: int) -> NDArray[np.int64]:
        """Rows of the slots where the first pictures of the batch lie; the batches must be asked for in order.

        Blocks until they are decoded. Raises what decoding raised.
        """
        part = slice(*self._bounds[batch : batch + 2])
        chunks = self._plan.chunk[part]
        for chunk in np.unique(chunks).tolist():
            if (decoding := self._decoding.pop(chunk, None)) is not None:
                decoding.result()
        return self._slots.rows(self._slot[chunks], self._plan.row[part])

    def leave(self, batch: int) -> None:
        """The batch is drawn: slots that it was the last to need are free."""
        while self._leaving and self._last[self._leaving[0]] < self._bounds[batch + 1]:
            self._give_back(self._leaving.popleft())

    def close(self) -> None:
        """Call off what waits to be decoded, let what is being decoded come to its end, and free all slots."""
        for decoding in self._decoding.values():
            decoding.cancel()
        wait(self._decoding.values())
        for chunk in self._leaving:
            self._give_back(chunk)

    def _give_back(self, chunk: int) -> None:
        if self._slot[chunk] >= 0:
            self._slots.free.append(int(self._slot[chunk]))
