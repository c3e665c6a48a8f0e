import numpy as np
import pytest

from lapa_ray.envs.environment import FrameStack
from lapa_ray.replay.chunk import Chunk
from lapa_ray.replay.sum_tree import SumTree
from lapa_ray.replay.transitions import TransitionStore, spare_frames

GAMMA = 0.5


def chunk(stream: int, frames: list[int], starts: list[bool]) -> Chunk:
    count = len(frames)
    pictures = np.array(frames, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), dtype=np.uint8)
    zeros = np.zeros(count)
    return Chunk(
        stream, pictures, np.array(starts), zeros.astype(np.int64), zeros.astype(np.float32), zeros.astype(bool)
    )


def store_of(capacity: int, frame_stack: int, n_step: int = 1, **fields) -> TransitionStore:
    return TransitionStore(capacity, frame_stack, shape=(2, 2), n_step=n_step, gamma=GAMMA, **fields)


def rewarded(rewards: list[float], starts: list[int], terminal: list[int], **columns) -> Chunk:
    rows = np.arange(len(rewards))
    frames = np.zeros((len(rows), 2, 2), dtype=np.uint8) + rows.astype(np.uint8)[:, None, None]
    is_start, is_terminal = np.isin(rows, starts), np.isin(rows, terminal)
    return Chunk(0, frames, is_start, rows, np.array(rewards, dtype=np.float32), is_terminal, **columns)


def windows(store: TransitionStore) -> list[list[int]]:
    return store.gather(np.arange(store.tail, store.head))[0][:, :, 0, 0].tolist()


def test_a_stack_never_crosses_an_episode_start():
    store = store_of(10, frame_stack=3)
    store.append([chunk(0, [1, 2, 3, 10, 11], [True, False, False, True, False])])
    assert windows(store) == [[1, 1, 1, 2], [1, 1, 2, 3], [10, 10, 10, 11]]


def test_a_stream_goes_on_across_chunks_and_other_streams():
    store = store_of(10, frame_stack=2)
    store.append([chunk(0, [1, 2], [True, False]), chunk(1, [50], [True])])
    store.append([chunk(1, [51], [False]), chunk(0, [3, 4], [False, False])])
    assert windows(store) == [[1, 1, 2], [50, 50, 51], [1, 2, 3], [2, 3, 4]]


def test_stacks_equal_those_that_the_policy_saw():
    generator = np.random.default_rng(0)
    starts = generator.random(60) < 0.2
    starts[0] = True
    numbers = list(range(60))
    store, stack = store_of(100, frame_stack=4), FrameStack(4)
    store.append([chunk(0, numbers, starts.tolist())])
    seen = []
    for number, start in zip(numbers, starts, strict=True):
        obs = np.full((84, 84), number, dtype=np.uint8)
        seen.append((stack.reset(obs) if start else stack.push(obs))[:, 0, 0].tolist())
    assert [window[1:] for window in windows(store)] == [s for s, start in zip(seen, starts, strict=True) if not start]


def test_a_stream_that_never_began_is_skipped_until_it_does():
    store = store_of(10, frame_stack=2)
    store.append([chunk(0, [5, 6, 7, 8], [False, False, True, False])])
    assert windows(store) == [[7, 7, 8]]
    assert store.num_skipped == 2


def test_columns_of_different_lengths_are_refused_before_anything_is_stored():
    store = store_of(10, frame_stack=2)
    whole = chunk(0, [1, 2], [True, False])
    cut = Chunk(1, whole.frames, whole.starts, whole.actions[:1], whole.rewards, whole.terminated)
    with pytest.raises(ValueError, match="stream 1: columns of different lengths"):
        store.append([whole, cut])
    assert len(store) == 0


def test_n_steps_are_summed_up_and_end_with_the_episode():
    store = store_of(10, frame_stack=2, n_step=3)
    store.append([rewarded([0, 1, 2, 4, 8], starts=[0], terminal=[4])])
    assert windows(store) == [[0, 0, 1, 2, 3], [0, 1, 2, 3, 4], [1, 2, 3, 4, 4], [2, 3, 4, 4, 4]]
    _, actions, rewards, discounts = store.gather(np.arange(4))
    assert actions.tolist() == [1, 2, 3, 4]
    assert rewards.tolist() == [1 + 2 / 2 + 4 / 4, 2 + 4 / 2 + 8 / 4, 4 + 8 / 2, 8]
    assert discounts.tolist() == [GAMMA**3, 0, 0, 0]


def test_a_truncation_cuts_the_steps_that_look_beyond_it():
    store = store_of(10, frame_stack=1, n_step=3)
    store.append([rewarded([0, 1, 2, 4, 0, 1], starts=[0, 4], terminal=[])])
    assert windows(store) == [[0, 1, 2, 3]]
    with_one_step = store_of(10, frame_stack=1)
    with_one_step.append([rewarded([0, 1, 2, 4, 0, 1], starts=[0, 4], terminal=[])])
    assert windows(with_one_step) == [[0, 1], [1, 2], [2, 3], [4, 5]]


def test_a_lost_life_ends_the_return_but_not_the_stack():
    store = store_of(10, frame_stack=2, n_step=2)
    store.append([rewarded([0, 1, 2, 4, 8], starts=[0], terminal=[2])])
    assert windows(store) == [[0, 0, 1, 2], [0, 1, 2, 2], [1, 2, 3, 4]]
    _, _, rewards, discounts = store.gather(np.arange(3))
    assert rewards.tolist() == [2, 2, 8]
    assert discounts.tolist() == [0, 0, GAMMA**2]


def test_td_errors_are_those_of_the_chunks_q_values():
    store = store_of(10, frame_stack=1, n_step=2)
    max_q, chosen_q = (np.array(column, dtype=np.float32) for column in ([9, 9, 10, 20, np.nan], [0, 5, 6, 7, 8]))
    told = store.append([rewarded([0, 1, 2, 4, 8], starts=[0], terminal=[4], max_q=max_q, chosen_q=chosen_q)])
    assert told.tolist() == [abs(2 + 10 / 4 - 5), abs(4 + 20 / 4 - 6), abs(8 - 7), abs(8 - 8)]
    without = store_of(10, frame_stack=1, n_step=2).append([rewarded([0, 1, 2, 4, 8], starts=[0], terminal=[4])])
    assert np.isnan(without).tolist() == [True] * 4


def test_a_million_8_stacks_of_three_steps_fit_seven_and_a_half_gigabytes():
    """Bytes, counted; `benchmarks.replay` fills such a buffer and measures."""
    capacity, size = 1_000_000, 100_000
    small = TransitionStore(1000, frame_stack=8, spare=1000, n_step=3, gamma=GAMMA)
    per_frame = small.frames._frames.nbytes / small.frames.capacity + small._last_user.itemsize
    per_transition = sum(column.nbytes for column in small._columns().values()) / small.capacity
    per_leaf = sum(level.nbytes for level in SumTree(size)._levels) / size
    total = per_frame * (capacity + spare_frames(capacity)) + (per_transition + per_leaf) * capacity
    assert per_transition + per_leaf + small._last_user.itemsize <= 77
    assert total <= 7.3e9


@pytest.mark.parametrize(("spare", "n_step", "capacity"), [(47, 4, 100), (64, 11, 10)])
def test_sizes_without_sense_are_refused(spare, n_step, capacity):
    with pytest.raises(ValueError, match=r"must be at least|at least n_step"):
        store_of(capacity, frame_stack=8, n_step=n_step, spare=spare)
