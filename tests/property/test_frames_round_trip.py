"""What the writer wrote is what the reader reads, for any episode lengths; pairs and splits keep episodes apart."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lapa_ray.core.pictures import Compositor
from lapa_ray.dataset.pairs import PairStore
from lapa_ray.dataset.splits import split_episodes
from tests.support.counter_env import CounterEnv
from tests.support.recordings import Recording, open_folder, record_counter

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=4)


@settings(max_examples=25, deadline=None)
@given(LENGTHS, st.integers(1, 4), st.sampled_from([1, 60, 1000]), st.booleans())
def test_round_trip(lengths: list[int], last_frames: int, rows_per_shard: int, truncates: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        written = record_counter(Path(folder), lengths, last_frames, rows_per_shard=rows_per_shard, truncates=truncates)
        dataset = open_folder(Path(folder))
        assert dataset.episode_ids == sorted(written)
        for episode_id, recording in written.items():
            _assert_same(dataset, episode_id, recording, truncates=truncates)


def _assert_same(dataset, episode_id: int, recording: Recording, *, truncates: bool) -> None:
    np.testing.assert_array_equal(
        dataset.screens(episode_id), np.concatenate([s.frames.screens for s in recording.steps])
    )
    table = dataset.steps(episode_id)
    np.testing.assert_array_equal(table.actions, recording.actions)
    np.testing.assert_array_equal(table.rewards, [step.reward for step in recording.steps[1:]])
    np.testing.assert_array_equal(table.ram, [step.frames.ram[-1] for step in recording.steps])
    assert table.terminated.tolist() == [False] * (len(recording.actions) - 1) + [not truncates]
    assert table.truncated.tolist() == [False] * (len(recording.actions) - 1) + [truncates]
    for name in ("max4", "max2", "last"):
        compositor = Compositor(dataset.info.palette, name)
        expected = np.stack([compositor(step.frames.screens) for step in recording.steps])
        np.testing.assert_array_equal(dataset.composites(episode_id, name), expected)


@settings(max_examples=25, deadline=None)
@given(LENGTHS, st.integers(1, 5))
def test_pairs_never_cross_an_episode(lengths: list[int], gap: int) -> None:
    episodes = []
    for tag, length in enumerate(lengths):
        env = CounterEnv(length=length, height=4)
        pictures = [env.reset(tag).frames.screens[-1]] + [env.step(0).frames.screens[-1] for _ in range(length)]
        episodes.append(np.stack(pictures))
    store = PairStore(episodes, gap=gap)
    before, after = store.batch(np.arange(len(store)))
    assert len(store) == sum(max(length + 1 - gap, 0) for length in lengths)
    np.testing.assert_array_equal(before[:, 0, 1], after[:, 0, 1])
    np.testing.assert_array_equal(before[:, 0, 3] + gap, after[:, 0, 3])


@given(st.sets(st.integers(0, 10**9), min_size=2, max_size=60), st.integers(0, 10**9))
def test_splits_are_nested_stable_and_never_empty(ids: set[int], new: int) -> None:
    train_20, held_20 = split_episodes(ids, 0.2)
    train_10, held_10 = split_episodes(ids, 0.1)
    assert set(train_20) | set(held_20) == ids
    assert not set(train_20) & set(held_20)
    assert train_20
    assert held_10
    assert set(held_10) <= set(held_20)
    assert set(train_20) <= set(train_10)
    grown_train, grown_held = split_episodes(ids | {new}, 0.5)
    train, held = split_episodes(ids, 0.5)
    moved = (set(grown_train) & set(held)) | (set(grown_held) & set(train))
    assert len(moved) <= 1, "only an episode that stood in for an empty part may move"
