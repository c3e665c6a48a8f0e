"""The picture stream: recorded episodes in, shuffled batches of pairs or sequences out, from a bounded memory.

Shards may be larger than memory: chunks of episodes are decoded ahead by threads into a few reused slots (`window`),
and batches are drawn at random from the chunks that are there. The order follows from seed, epoch and worker alone
(`plan`), so a stream goes on in the middle of an epoch, exactly, without decoding what it skips. Pictures stay palette
indices, one byte a pixel, until the training device looks them up. Knows neither torch nor ray.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.errors import LapaError
from lapa_ray.core.pictures import Composite, Screen
from lapa_ray.core.seeds import generator_for
from lapa_ray.dataset.plan import Plan, Span, batch_bounds, cut, in_order, make_plan, num_batches, pack, share, shuffled
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.window import AHEAD, Slots, Window

CHUNK_ITEMS = (512, 256, 128, 64, 32)
"""Items that are decoded together: four row groups of four frames a step, or fewer where memory is short."""
GOOD_WINDOW, MIN_WINDOW = 8, 2
"""Chunks that batches are drawn from: fewer than the first, and chunks are made smaller; the second at the least."""
STRADDLED = 2
"""Chunks more than the window that one batch may touch: it closes some and opens others."""


@dataclass(frozen=True)
class Draw:
    """What is drawn: sequences of `length` pictures, `gap` steps apart, `batch_size` at a time; length 2 is pairs.

    `drop_last` makes every batch full and leaves the rest of an epoch out (another rest in each); otherwise every item
    is drawn once an epoch, and the sizes of batches differ by one at most. Of `world_size` workers this is `rank`: each
    draws its share, and all make the same number of batches. Without `shuffle` the items come in order.
    """

    batch_size: int
    length: int = 2
    gap: int = 1
    composite: Composite = "max4"
    seed: int = 0
    shuffle: bool = True
    drop_last: bool = False
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        least = min(self.batch_size, self.length, self.gap, self.world_size)
        if least < 1 or not 0 <= self.rank < self.world_size:
            raise ValueError(f"cannot be drawn: {self}")

    @property
    def reach(self) -> int:
        """Steps from the first picture of a sequence to its last."""
        return (self.length - 1) * self.gap


@dataclass(frozen=True)
class Batch:
    """Sequences of composites: pictures uint8 [length, B, height, width], palette indices.

    `episode_ids` and `steps`, int64 [B], name them: the sequence of step t is c_t, c_(t+gap), …; the reset is c_0.
    """

    pictures: Screen
    episode_ids: NDArray[np.int64]
    steps: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.steps)


class PictureStream:
    """Batches of `draw` from `episode_ids` of `dataset`; iterating gives those that are left of the epoch.

    Use it as a context manager, or `close` it: it holds threads.
    """

    def __init__(
        self,
        dataset: FrameDataset,
        episode_ids: Sequence[int],
        draw: Draw,
        max_memory_gb: float = 0.5,
        num_threads: int = 2,
    ) -> None:
        """`max_memory_gb` bounds the decoded pictures that are held, and so decides the order with the draw.

        Raises `LapaError` if it is too little for a window at all, or there are fewer items than workers.
        """
        self.draw, self._dataset = draw, dataset
        self.epoch = self.batch = 0
        self._spans, self._capacity, self._num_chunks = _fit(dataset, episode_ids, draw, max_memory_gb)
        self.num_items = sum(span.count for span in self._spans)
        if self.num_items < draw.world_size:
            raise LapaError(
                f"{dataset.name}: {self.num_items} sequences of {draw.length} pictures for {draw.world_size} workers; "
                "record more, or use fewer."
            )
        self._slots = Slots(dataset.decoder(draw.composite), self._capacity)
        self._executor = ThreadPoolExecutor(num_threads, thread_name_prefix="decode")
        self._window: Window | None = None
        self._next: Window | None = None

    def __len__(self) -> int:
        """Batches an epoch, the same for every worker."""
        draw = self.draw
        return num_batches(self.num_items, draw.batch_size, draw.world_size, drop_last=draw.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        """The rest of this epoch; then the stream stands at the beginning of the next."""
        while self.batch < len(self):
            yield self.next_batch()
        self.seek(self.epoch + 1, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def next_batch(self) -> Batch:
        """The batch at which the stream stands. Raises `LapaError` that names a shard which turns out damaged."""
        window = self._window = self._window or self._begin(self._window_of(self.epoch, self.batch))
        rows = window.rows(self.batch)
        pictures = np.empty((self.draw.length, len(rows), *self._dataset.info.screen_shape), dtype=np.uint8)
        for place, out in enumerate(pictures):
            self._slots.copy(rows + place * self.draw.gap, out)
        episode_ids, steps = self._slots.names(rows)
        window.leave(self.batch)
        window.decode_ahead()
        self._begin_next(window)
        self.batch += 1
        return Batch(pictures, episode_ids, steps)

    def at(self, epoch: int, batch: int) -> Batch:
        """Batch `batch` of `epoch`; unless it is the next one, a window is decoded first."""
        if (epoch, batch) != (self.epoch, self.batch):
            self.seek(epoch, batch)
        return self.next_batch()

    def seek(self, epoch: int, batch: int) -> None:
        """Go to a batch; what is skipped is not decoded."""
        is_next = (epoch, batch) == (self.epoch + 1, 0)
        for window in (self._window, None if is_next else self._next):
            if window is not None:
                window.close()
        self._window, self._next = self._next if is_next else None, None
        if self._window is not None:
            self._begin(self._window)
        self.epoch, self.batch = epoch, batch

    def get_state(self) -> dict[str, Any]:
        """Where the stream stands, and of what it is a stream: JSON values."""
        return {"epoch": self.epoch, "batch": self.batch, **self._identity()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go to where a stream of the same data and draw stood. Raises `LapaError` if they are not the same."""
        for name, mine in self._identity().items():
            if state.get(name) != mine:
                raise LapaError(
                    f"{self._dataset.name}: the state to resume from has {name} {state.get(name)}, this stream {mine}; "
                    "make it of the same data and draw."
                )
        self.seek(int(state["epoch"]), int(state["batch"]))

    def close(self) -> None:
        """Stop the threads."""
        self.seek(self.epoch, self.batch)  # closes what is open
        self._executor.shutdown()

    def plan(self, epoch: int) -> Plan:
        """What this worker reads and draws in `epoch`, and in which order."""
        draw = self.draw
        spans = shuffled(self._spans, draw.seed, epoch) if draw.shuffle else self._spans
        chunks = pack(share(spans, draw.rank, draw.world_size), draw.reach, self._capacity)
        if not draw.shuffle:
            return in_order(chunks, draw.reach)
        generator = generator_for(draw.seed, "stream", epoch, draw.rank)
        return make_plan(chunks, draw.reach, self._num_chunks, generator)

    def _begin(self, window: Window) -> Window:
        self._slots.reserve(window.num_slots)
        window.decode_ahead()
        return window

    def _begin_next(self, window: Window) -> None:
        """Begin to decode the next epoch where this one leaves slots free, so that its first batch is there in time."""
        if window.is_waiting or not self.draw.shuffle:
            return
        if self._next is None:
            self._next = self._window_of(self.epoch + 1, 0)
        if self._next.num_slots <= self._slots.num_slots:
            self._next.decode_ahead(AHEAD)

    def _window_of(self, epoch: int, batch: int) -> Window:
        plan = self.plan(epoch)
        bounds = batch_bounds(len(plan), len(self), self.draw.batch_size, drop_last=self.draw.drop_last)
        return Window(plan, bounds, batch, self.draw.reach, self._slots, self._executor)

    def _identity(self) -> dict[str, Any]:
        """What decides the order."""
        items = hashlib.sha256(repr(self._spans).encode()).hexdigest()[:16]
        return asdict(self.draw) | {"window": self._num_chunks, "items": items}


def _fit(
    dataset: FrameDataset, episode_ids: Sequence[int], draw: Draw, max_memory_gb: float
) -> tuple[list[Span], int, int]:
    """Spans, pictures that a chunk takes at most, and the number of chunks to draw from, within the memory."""
    room = max_memory_gb * 1e9 / dataset.info.screen_bytes
    for chunk_items in CHUNK_ITEMS:
        spans = [
            span
            for episode in episode_ids
            for span in cut(episode, dataset.num_steps(episode) + 1, _starts(dataset, episode), draw.reach, chunk_items)
        ]
        capacity = max([chunk_items, *(span.count for span in spans)]) + draw.reach
        window = int(room / capacity) - AHEAD - STRADDLED
        if window >= GOOD_WINDOW:
            break
    if window < MIN_WINDOW:
        least = (MIN_WINDOW + AHEAD + STRADDLED) * capacity * dataset.info.screen_bytes / 1e9
        raise LapaError(
            f"{dataset.name}: streaming needs {least:.2g} GB for pictures, more than max_memory_gb {max_memory_gb:g}; "
            "raise it."
        )
    return spans, capacity, window


def _starts(dataset: FrameDataset, episode_id: int) -> NDArray[np.int64]:
    return dataset.rows(episode_id).group_starts
