"""The picture stream against brute force: each sequence once, whole, in one episode, and the same when resumed."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapa_ray.core.errors import LapaError
from lapa_ray.dataset import stream as stream_module
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.shards import shard_paths
from lapa_ray.dataset.stream import Batch, Draw, PictureStream
from lapa_ray.dataset.window import AHEAD, Slots
from tests.support.recordings import open_folder, record_counter

LENGTHS = st.lists(st.integers(1, 40), min_size=3, max_size=6)
PICTURE_GB = 4 * 160 / 1e9
ROOM = 100 * 50 * PICTURE_GB


@contextmanager
def counters(lengths: list[int], **how) -> Iterator[FrameDataset]:
    with tempfile.TemporaryDirectory() as folder:
        record_counter(Path(folder), lengths, **how)
        yield open_folder(Path(folder))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(stream_module, "CHUNK_ITEMS", (40,))


def drawn(batch: Batch) -> list[tuple[int, ...]]:
    """(episode, step of each picture) as the pictures themselves spell it."""
    spelt = batch.pictures[:, :, 0, :4].astype(int)
    tags, steps = spelt[..., 0] * 256 + spelt[..., 1], spelt[..., 2] * 256 + spelt[..., 3]
    assert (tags == tags[0]).all(), "a sequence lies in one episode"
    np.testing.assert_array_equal(tags[0], batch.episode_ids)
    np.testing.assert_array_equal(steps[0], batch.steps)
    return [(int(tag), *map(int, of)) for tag, of in zip(tags[0], steps.T, strict=True)]


def expected(lengths: list[int], draw: Draw) -> list[tuple[int, ...]]:
    return [
        (episode, *range(first, first + draw.reach + 1, draw.gap))
        for episode, length in enumerate(lengths)
        for first in range(length + 1 - draw.reach)
    ]


@settings(max_examples=30, deadline=None)
@given(
    LENGTHS,
    st.sampled_from(["max4", "max2", "last"]),
    st.integers(2, 4),
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(1, 3),
    st.booleans(),
)
def test_every_sequence_once_an_epoch_over_the_workers(
    lengths, composite, length, gap, batch_size, world_size, shuffle
):
    draw = Draw(batch_size, length, gap, composite, shuffle=shuffle, world_size=world_size)
    if len(expected(lengths, draw)) < world_size:
        return
    with counters(lengths) as dataset:
        seen, counts = [], set()
        for rank in range(world_size):
            with PictureStream(dataset, dataset.episode_ids, replace(draw, rank=rank), ROOM) as stream:
                batches = list(stream)
                assert len(batches) == len(stream)
                assert (stream.epoch, stream.batch) == (1, 0)
            counts.add(len(batches))
            seen += [item for batch in batches for item in drawn(batch)]
        assert len(counts) == 1
        assert sorted(seen) == expected(lengths, draw)
        if not shuffle:
            assert seen == expected(lengths, draw)


@settings(max_examples=15, deadline=None)
@given(LENGTHS, st.integers(1, 9), st.integers(0, 3), st.booleans(), st.data())
def test_a_resumed_stream_goes_on_in_the_same_order(lengths, batch_size, epoch, drop_last, data):
    draw = Draw(batch_size, seed=5, drop_last=drop_last)
    with counters(lengths) as dataset, PictureStream(dataset, dataset.episode_ids, draw, ROOM) as stream:
        stream.seek(epoch, 0)
        stop = data.draw(st.integers(0, len(stream)))
        batches, states = [], []
        for _ in range(2):
            while stream.batch < len(stream):
                states.append(stream.get_state())
                batches.append(drawn(stream.next_batch()))
            stream.seek(stream.epoch + 1, 0)
        states.append(stream.get_state())
        with PictureStream(dataset, dataset.episode_ids, draw, ROOM) as resumed:
            resumed.set_state(states[stop])
            rest = [drawn(batch) for batch in resumed] if stop < len(states) - 1 else []
            left = len(stream) - stop % max(len(stream), 1) if stop < len(stream) else len(stream)
            assert rest == batches[stop : stop + left]
            for number in reversed(range(min(3, len(stream)))):
                assert drawn(resumed.at(epoch, number)) == batches[number]


def test_epochs_seeds_and_workers_differ_in_order_only():
    with counters([300, 30, 20]) as dataset:
        orders = {}
        for epoch, seed in ((0, 0), (1, 0), (0, 1)):
            with PictureStream(dataset, dataset.episode_ids, Draw(16, seed=seed), ROOM) as stream:
                stream.seek(epoch, 0)
                orders[epoch, seed] = [item for batch in stream for item in drawn(batch)]
        assert len({tuple(order) for order in orders.values()}) == 3
        assert len({tuple(sorted(order)) for order in orders.values()}) == 1
        first = orders[0, 0][:64]
        assert len({episode for episode, *_ in first}) > 1, "a batch mixes episodes"


def test_dropping_the_last_makes_full_batches_and_leaves_out_others_in_each_epoch():
    with (
        counters([33, 30]) as dataset,
        PictureStream(dataset, dataset.episode_ids, Draw(10, drop_last=True), ROOM) as stream,
    ):
        assert len(stream) == 6
        epochs = [[item for batch in stream for item in drawn(batch)] for _ in range(2)]
        assert [len(set(epoch)) for epoch in epochs] == [60, 60]
        assert set(epochs[0]) != set(epochs[1])


def test_only_a_few_chunks_are_in_memory_and_nothing_skipped_is_decoded(monkeypatch):
    decoded, lock = [], threading.Lock()
    reserved = []
    fill, reserve = Slots.fill, Slots.reserve

    def counted_fill(self, slot, chunk, reach):
        with lock:
            decoded.append((slot, sum(span.count for span in chunk)))
        fill(self, slot, chunk, reach)

    def counted_reserve(self, num_slots):
        reserved.append(num_slots)
        reserve(self, num_slots)

    monkeypatch.setattr(Slots, "fill", counted_fill)
    monkeypatch.setattr(Slots, "reserve", counted_reserve)
    room = 10 * 41 * PICTURE_GB
    with (
        counters([40] * 60) as dataset,
        PictureStream(dataset, dataset.episode_ids, Draw(8), room) as stream,
    ):
        num_items = sum(len(batch) for batch in stream)
        assert num_items == 2400
        assert 0 <= len(decoded) - 60 <= AHEAD, "each chunk is decoded once, and the next epoch begun"
        assert max(reserved) <= 10
        assert {slot for slot, _ in decoded} == set(range(max(reserved)))
        decoded.clear()
        stream.seek(0, len(stream) - 2)
        list(stream)
        assert len(decoded) < 10


def test_a_damaged_shard_is_named_when_the_stream_comes_to_it(tmp_path):
    record_counter(tmp_path, [40] * 6, rows_per_shard=300, height=40)
    dataset = open_folder(tmp_path)
    shard = shard_paths(tmp_path)[1]
    content = shard.read_bytes()
    half = len(content) // 2
    shard.write_bytes(content[:4] + bytes(byte ^ 1 for byte in content[4:half]) + content[half:])
    with PictureStream(dataset, dataset.episode_ids, Draw(8), 0.1) as stream:
        with pytest.raises(LapaError, match=rf"{shard.name}: corrupt shard"):
            list(stream)
        with pytest.raises(LapaError, match=rf"{shard.name}: corrupt shard"):
            list(stream)


def test_what_cannot_be_streamed_is_told():
    with counters([3, 1]) as dataset:
        ids = dataset.episode_ids
        with pytest.raises(
            LapaError, match=r"streaming needs .* GB for pictures, more than max_memory_gb 1e-06; raise it"
        ):
            PictureStream(dataset, ids, Draw(2), 1e-6)
        with pytest.raises(LapaError, match=r"2 sequences of 3 pictures for 3 workers; record more, or use fewer"):
            PictureStream(dataset, ids, Draw(2, length=3, world_size=3), ROOM)
        with (
            PictureStream(dataset, ids, Draw(2), ROOM) as stream,
            PictureStream(dataset, ids[:1], Draw(2), ROOM) as other,
        ):
            with pytest.raises(LapaError, match="the state to resume from has items"):
                other.set_state(stream.get_state())
            with pytest.raises(LapaError, match="the state to resume from has batch_size 3, this stream 2"):
                stream.set_state(stream.get_state() | {"batch_size": 3})
