import numpy as np
import pytest

from lapa_ray.envs.environment import FrameStack
from lapa_ray.replay.chunk import Chunk
from lapa_ray.replay.transitions import TransitionStore, spare_frames


def chunk(stream: int, frames: list[int], starts: list[bool]) -> Chunk:
    count = len(frames)
    pictures = np.array(frames, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), dtype=np.uint8)
    zeros = np.zeros(count)
    return Chunk(
        stream, pictures, np.array(starts), zeros.astype(np.int64), zeros.astype(np.float32), zeros.astype(bool)
    )


def windows(store: TransitionStore) -> list[list[int]]:
    return store.gather(np.arange(store.tail, store.head))[0][:, :, 0, 0].tolist()


def test_a_stack_never_crosses_an_episode_start():
    store = TransitionStore(10, frame_stack=3, shape=(2, 2))
    store.append([chunk(0, [1, 2, 3, 10, 11], [True, False, False, True, False])])
    assert windows(store) == [[1, 1, 1, 2], [1, 1, 2, 3], [10, 10, 10, 11]]


def test_a_stream_goes_on_across_chunks_and_other_streams():
    store = TransitionStore(10, frame_stack=2, shape=(2, 2))
    store.append([chunk(0, [1, 2], [True, False]), chunk(1, [50], [True])])
    store.append([chunk(1, [51], [False]), chunk(0, [3, 4], [False, False])])
    assert windows(store) == [[1, 1, 2], [50, 50, 51], [1, 2, 3], [2, 3, 4]]


def test_stacks_equal_those_that_the_policy_saw():
    generator = np.random.default_rng(0)
    starts = generator.random(60) < 0.2
    starts[0] = True
    numbers = list(range(60))
    store, stack = TransitionStore(100, frame_stack=4, shape=(2, 2)), FrameStack(4)
    store.append([chunk(0, numbers, starts.tolist())])
    seen = []
    for number, start in zip(numbers, starts, strict=True):
        obs = np.full((84, 84), number, dtype=np.uint8)
        seen.append((stack.reset(obs) if start else stack.push(obs))[:, 0, 0].tolist())
    assert [window[1:] for window in windows(store)] == [s for s, start in zip(seen, starts, strict=True) if not start]


def test_a_stream_that_never_began_is_skipped_until_it_does():
    store = TransitionStore(10, frame_stack=2, shape=(2, 2))
    assert store.append([chunk(0, [5, 6, 7, 8], [False, False, True, False])]) == 3
    assert windows(store) == [[7, 7, 8]]
    assert store.num_skipped == 2


def test_columns_of_different_lengths_are_refused_before_anything_is_stored():
    store = TransitionStore(10, frame_stack=2, shape=(2, 2))
    whole = chunk(0, [1, 2], [True, False])
    cut = Chunk(1, whole.frames, whole.starts, whole.actions[:1], whole.rewards, whole.terminated)
    with pytest.raises(ValueError, match="stream 1: columns of different lengths"):
        store.append([whole, cut])
    assert len(store) == 0


def test_a_million_8_stacks_fit_seven_and_a_half_gigabytes():
    capacity = 1_000_000
    small = TransitionStore(1000, frame_stack=8, spare=1000)
    per_frame = small.frames._frames.nbytes / small.frames.capacity + small._last_user.itemsize
    per_transition = sum(column.nbytes for column in small._columns().values()) / small.capacity
    tree = 2 * 8  # bytes a leaf and its share of the inner nodes
    total = per_frame * (capacity + spare_frames(capacity)) + (per_transition + tree) * capacity
    assert total <= 7.5e9
