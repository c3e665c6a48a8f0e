"""RGB screens, and what an import does not know, through writer and reader; composites of RGB against brute force."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapa_ray.core.errors import LapaError
from lapa_ray.core.frames import NO_ACTION, RAM_BYTES, GameInfo, StepFrames
from lapa_ray.core.pictures import Compositor, RgbCompositor, changed, to_rgb
from lapa_ray.dataset.pairs import PairStore
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.schema import row_group_rows
from lapa_ray.dataset.shards import read_shards, shard_paths
from lapa_ray.dataset.writer import FrameWriter
from tests.support.counter_env import CounterEnv
from tests.support.recordings import open_folder, record_counter

NO_PALETTE = np.empty((0, 3), np.uint8)
WEIGHTS = np.array([0.2989, 0.5870, 0.1140])


def rgb_info(height: int = 5, width: int = 3, unknown: tuple[str, ...] = ()) -> GameInfo:
    return GameInfo("Film", NO_PALETTE, ("NOOP", "UP"), height, width, 4, 0.0, "none", channels=3, unknown=unknown)


def write(folder: Path, info: GameInfo, screens: np.ndarray, frames_a_step: int = 4) -> FrameDataset:
    with FrameWriter(folder, info, "film", "nobody") as writer:
        writer.begin_episode(0)
        for start in [0, *range(1, len(screens), frames_a_step)]:
            part = screens[start : start + (frames_a_step if start else 1)]
            count = len(part)
            frames = StepFrames(
                part,
                np.full((count, RAM_BYTES), 7, np.uint8),
                np.ones(count, np.int8),
                np.zeros(count, np.float32),
                np.zeros(count, np.int8),
            )
            writer.append(1 if start else NO_ACTION, frames, terminated=False, truncated=False)
    return open_folder(folder)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(0, 2**32 - 1), st.sampled_from(["max4", "max2", "last"]))
def test_rgb_round_trip_and_composites(num_frames: int, seed: int, composite: str) -> None:
    screens = np.random.default_rng(seed).integers(0, 4, (num_frames, 5, 3, 3), dtype=np.uint8)  # few colours: ties
    with tempfile.TemporaryDirectory() as folder:
        dataset = write(Path(folder), rgb_info(), screens)
        assert dataset.info.channels == 3
        np.testing.assert_array_equal(dataset.screens(0), screens)
        pictures = dataset.composites(0, composite)
    steps = [screens[:1], *(screens[start : start + 4] for start in range(1, num_frames, 4))]
    number = {"max4": 4, "max2": 2, "last": 1}[composite]
    np.testing.assert_array_equal(pictures, np.stack([brute_force(step[-number:]) for step in steps]))


def brute_force(frames: np.ndarray) -> np.ndarray:
    picture = np.empty_like(frames[0])
    for place in np.ndindex(picture.shape[:2]):
        best = max(range(len(frames)), key=lambda f: (frames[f][place] @ WEIGHTS, f))
        picture[place] = frames[best][place]
    return picture


def test_composites_of_rgb_are_those_of_palette_indices():
    palette = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
    palette[:, 0] = np.arange(256)  # all colours, and all luminances, are different
    screens = np.random.default_rng(1).integers(0, 256, (4, 21, 16), dtype=np.uint8)
    expected = palette[Compositor(palette)(screens)]
    assert len(np.unique(palette @ WEIGHTS)) == 256
    np.testing.assert_array_equal(RgbCompositor()(palette[screens]), expected)


def test_look_ups_pass_rgb_through():
    before, after = np.random.default_rng(0).integers(0, 2, (2, 7, 4, 5, 3), dtype=np.uint8)
    assert to_rgb(before, NO_PALETTE) is before
    np.testing.assert_array_equal(changed(before, after, NO_PALETTE), (before != after).any(-1))
    palette = CounterEnv().info.palette
    np.testing.assert_array_equal(changed(before, after, palette), before != after)


def test_pairs_of_rgb(tmp_path):
    screens = np.random.default_rng(0).integers(0, 256, (9, 5, 3, 3), dtype=np.uint8)
    store = PairStore.load(write(tmp_path, rgb_info(), screens), [0], "last")
    before, after = store.batch(np.array([0, 1]))
    np.testing.assert_array_equal(before, screens[[0, 4]])
    np.testing.assert_array_equal(after, screens[[4, 8]])


def test_what_is_unknown_is_null(tmp_path):
    unknown = ("ram", "action", "executed_action", "reward", "lives")
    dataset = write(tmp_path, rgb_info(unknown=unknown), np.zeros((6, 5, 3, 3), np.uint8))
    table = pq.read_table(shard_paths(tmp_path)[0])
    assert [table.column(name).null_count for name in unknown] == [6, 6, 6, 0, 0]
    assert dataset.info.unknown == unknown
    steps = dataset.steps(0)
    assert steps.ram is None
    assert steps.actions.tolist() == steps.executed_actions.tolist() == [NO_ACTION] * 2


def test_large_screens_have_small_row_groups(tmp_path):
    info = rgb_info(height=1200, width=1920)
    assert row_group_rows(info) == 4
    assert row_group_rows(rgb_info(210, 160)) == 332
    assert row_group_rows(CounterEnv().info) == 512
    screens = np.zeros((10, 1200, 1920, 3), np.uint8)
    screens[:, 3, 5] = np.arange(10)[:, None]
    dataset = write(tmp_path, info, screens)
    assert dataset.screens(0)[:, 3, 5, 0].tolist() == list(range(10))


def test_rgb_and_palette_indices_are_kept_apart(tmp_path):
    record_counter(tmp_path / "a", [2], height=5)
    info = replace(CounterEnv(height=5).info, palette=NO_PALETTE, channels=3)
    write(tmp_path / "b", info, np.zeros((2, *info.screen_shape), np.uint8))
    with pytest.raises(LapaError, match="recorded with another game or settings"):
        read_shards([*shard_paths(tmp_path / "a"), *shard_paths(tmp_path / "b")])
