"""The plan of an epoch: lengths of episodes in, the order in which their pictures are read and drawn out.

A plan is made from a seed, an epoch's number and a few integers an episode, so the same plan can be made again in the
middle of an epoch, or by another worker. Knows no picture and no file.

An *item* is what a stream draws: a pair or a sequence, named by its first picture. A *span* is a run of items of one
episode; a *chunk* is a handful of spans that are decoded together. Items are drawn at random from a window of chunks
that moves over the epoch, so that memory holds the window and not the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.seeds import generator_for


@dataclass(frozen=True)
class Span:
    """Items of one episode that begin at its pictures `first`, `first` + 1, …, `count` of them."""

    episode_id: int
    first: int
    count: int


Chunk = tuple[Span, ...]
FIRST_OPEN = 4
"""Chunks from which the first batch of an epoch is drawn."""
OPENINGS = 8
"""Chunks that open, at the beginning of an epoch, for each one whose items are drawn."""


def cut(episode_id: int, num_pictures: int, starts: NDArray[np.int64], reach: int, size: int) -> Iterator[Span]:
    """The spans of an episode, of at most `size` items where `starts` allow it.

    `starts`: the first picture of each row group, from 0; spans are cut there, so that nothing is decoded twice but
    the `reach` pictures that the last items of a span need of the next.
    """
    num_items = num_pictures - reach
    begun = 0
    bounds = [*(int(start) for start in starts if 0 < start < num_items), num_items]
    for bound, after in pairwise(bounds):
        if after - begun > size:
            yield Span(episode_id, begun, bound - begun)
            begun = bound
    if begun < num_items:
        yield Span(episode_id, begun, num_items - begun)


def share(spans: Iterable[Span], rank: int, world_size: int) -> list[Span]:
    """The items of worker `rank`: every item is some worker's, and their numbers differ by one at most."""
    spans = list(spans)
    total = sum(span.count for span in spans)
    first, stop = (total * worker // world_size for worker in (rank, rank + 1))
    shared, position = [], 0
    for span in spans:
        begin, end = max(first, position), min(stop, position + span.count)
        if begin < end:
            shared.append(Span(span.episode_id, span.first + begin - position, end - begin))
        position += span.count
    return shared


def pack(spans: Iterable[Span], reach: int, capacity: int) -> list[Chunk]:
    """Chunks of `spans` in their order, each of at most `capacity` pictures."""
    chunks: list[list[Span]] = []
    room = 0
    for span in spans:
        size = span.count + reach
        if size > room:
            chunks.append([])
            room = capacity
        chunks[-1].append(span)
        room -= size
    return [tuple(chunk) for chunk in chunks]


@dataclass(frozen=True)
class Plan:
    """An epoch of one worker: chunks in the order of reading, and the items in the order of drawing.

    Item i lies in chunk `chunk[i]` and begins at its picture `row[i]`, both int64 [number of items].
    """

    chunks: list[Chunk]
    chunk: NDArray[np.int64]
    row: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.chunk)

    def uses(self, start: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First and last item from `start` on that each chunk has; those with none are first at `len(self)`."""
        first, last = np.full(len(self.chunks), len(self)), np.full(len(self.chunks), -1)
        places = np.arange(start, len(self))
        np.minimum.at(first, self.chunk[start:], places)
        np.maximum.at(last, self.chunk[start:], places)
        return first, last

    def most_alive(self, bounds: NDArray[np.int64]) -> int:
        """The greatest number of chunks that batches between `bounds` have begun on and not done with."""
        first, last = (np.sort(uses) for uses in self.uses())
        begun, ended = np.searchsorted(first, bounds[1:]), np.searchsorted(last, bounds[:-1])
        return int((begun - ended).max(initial=0))


def make_plan(chunks: Sequence[Chunk], reach: int, window: int, generator: np.random.Generator) -> Plan:
    """Draw the items of `chunks` at random, from `window` chunks at a time."""
    plan = in_order(chunks, reach)
    chunk = plan.chunk
    # A random time for each item: chunk j is open from j − window + 1 to j + 1, so `window` chunks are open at once.
    # The first ones open one after another, so that a first batch does not wait for all of them to be decoded; the last
    # ones stay open to the end, lest its batches be drawn from ever fewer.
    opened = np.maximum(chunk - window + 1, np.maximum(chunk - (FIRST_OPEN - 1), 0) / OPENINGS)
    closed = np.where(chunk >= len(chunks) - window, len(chunks), chunk + 1)
    order = np.argsort(opened + generator.random(len(chunk)) * (closed - opened), kind="stable")
    return Plan(plan.chunks, chunk[order], plan.row[order])


def in_order(chunks: Sequence[Chunk], reach: int) -> Plan:
    """Draw the items of `chunks` one after another."""
    rows = []
    for chunk in chunks:
        begin = 0
        for span in chunk:
            rows.append(np.arange(begin, begin + span.count))
            begin += span.count + reach
    sizes = [sum(span.count for span in chunk) for chunk in chunks]
    empty = np.empty(0, dtype=np.int64)
    return Plan(list(chunks), np.repeat(np.arange(len(chunks)), sizes), np.concatenate([empty, *rows]))


def batch_bounds(num_items: int, num_batches: int, batch_size: int, *, drop_last: bool) -> NDArray[np.int64]:
    """Where batches begin and end, int64 [num_batches + 1]; without `drop_last` the items are dealt out evenly."""
    places = np.arange(num_batches + 1, dtype=np.int64)
    return places * batch_size if drop_last else places * num_items // max(num_batches, 1)


def num_batches(total: int, batch_size: int, world_size: int, *, drop_last: bool) -> int:
    """Batches an epoch, the same for every worker and none of them empty; `total` items over all workers."""
    least = total // world_size
    return least // batch_size if drop_last else min(least, -(-total // (world_size * batch_size)))


def shuffled(spans: Sequence[Span], seed: int, epoch: int) -> list[Span]:
    """`spans` in the order of this epoch, the same for every worker."""
    return [spans[place] for place in generator_for(seed, "stream", epoch).permutation(len(spans))]
