"""The two sides of the dataset benchmark are given the same frames."""

import json

import numpy as np
import pytest
import torch

from benchmarks._frames import last_frames, repeated, steps_of, write_pngs
from benchmarks._png_loader import PngPairs
from benchmarks._recording_cost import cost
from benchmarks._result import Row
from benchmarks._training import training_rate
from benchmarks.dataset import sizes
from benchmarks.planner import Played, figures, table
from lapa_ray.core.pictures import to_rgb
from lapa_ray.dataset.pairs import PairStore
from tests.support.recordings import frames_artefact


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return frames_artefact(tmp_path_factory.mktemp("bench") / "frames", [7, 4], height=8)


def test_last_frames_are_the_same_steps_with_one_frame_each(frames, tmp_path):
    steps = last_frames(frames, tmp_path / "steps")
    assert steps.info.frame_skip == 1
    for episode in frames.episode_ids:
        assert steps.rows(episode).num_frames == frames.num_steps(episode) + 1
        np.testing.assert_array_equal(steps.screens(episode), frames.composites(episode, "last"))
        np.testing.assert_array_equal(steps.steps(episode).actions, frames.steps(episode).actions)


def test_a_repeated_set_holds_the_same_episodes_under_new_ids(frames, tmp_path):
    long = repeated(frames, tmp_path / "long", 100)
    assert long.episode_ids == [0, 1, 2, 3, 4]
    for episode in long.episode_ids:
        for copy, original in zip(steps_of(long, episode), steps_of(frames, episode % 2), strict=True):
            np.testing.assert_array_equal(copy.frames.screens, original.frames.screens)
            np.testing.assert_array_equal(copy.frames.ram, original.frames.ram)
            assert (copy.action, copy.terminated, copy.truncated) == original[:1] + original[2:]


def test_the_png_loader_gives_the_pairs_that_the_stream_gives(frames, tmp_path):
    assert write_pngs(frames, tmp_path) > 60
    store = PairStore.load(frames, frames.episode_ids, "last")
    pairs = PngPairs(tmp_path, frames, "last")
    assert len(pairs) == len(store)
    for index in range(len(store)):
        for png, ours in zip(pairs[index], store.batch([index]), strict=True):
            np.testing.assert_array_equal(png.numpy()[..., ::-1], to_rgb(ours[0], frames.info.palette))
    brightest = PngPairs(tmp_path, frames, "max4")
    screens = to_rgb(frames.screens(0), frames.info.palette)
    torch.testing.assert_close(brightest[1][1], torch.from_numpy(screens[5:9].max(axis=0)[..., ::-1].copy()))


def test_sizes_are_those_of_the_shards(frames):
    ratio, source = sizes(frames, frames, png_bytes=1000.0)
    ours = frames.artefact.manifest.figures["bytes_per_frame"]
    assert isinstance(ratio, Row)
    assert (ratio.key, ratio.value) == ("png_bytes_ratio", 1000 / ours)
    assert (source.key, source.value) == ("source_set_mb", pytest.approx(0.45 * ours))


def test_the_planner_benchmark_gives_the_figures_that_have_bars():
    episodes = [
        Played(number, 100.0 * number, 50.0, 10, 8, seconds=2.0, cpu_seconds=1.0, lives=3, mazes=(number % 2,))
        for number in range(3)
    ]
    told = figures(episodes)
    assert (told["score_median"], told["decisions_per_core_s"], told["mazes_seen"]) == (100.0, 4.0, 2)
    assert [row["episode"] for row in table(episodes)] == [0, 1, 2]


def test_the_rate_of_a_training_leaves_its_filling_out(tmp_path):
    rows = [
        {"step": 100, "num_updates": 0, "steps_per_s": 900.0, "updates_per_s": 0.0},
        {"step": 220, "num_updates": 5, "steps_per_s": 400.0, "updates_per_s": 9.0},
        {"step": 320, "num_updates": 30, "steps_per_s": 50.0, "updates_per_s": 12.5},
        {"step": 320, "num_updates": 40, "steps_per_s": 0.0, "updates_per_s": 10.0},
        {"step": 420, "num_updates": 65, "steps_per_s": 100.0, "updates_per_s": 25.0},
    ]
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert training_rate(log) == pytest.approx(4 * 60 / (2 + 1 + 1))


def test_the_cost_of_writing_is_the_share_of_the_rate_that_it_takes():
    assert cost([(50.0, 100.0), (80.0, 100.0), (90.0, 100.0)]) == pytest.approx(0.2)
