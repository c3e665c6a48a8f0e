"""Shards on disk: what anybody can read, and what is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lapa_ray.core.errors import LapaError
from lapa_ray.core.frames import NO_ACTION
from lapa_ray.dataset.pairs import PairStore
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.shards import read_shards, shard_paths
from lapa_ray.dataset.splits import split_episodes
from lapa_ray.dataset.summary import frame_figures
from lapa_ray.dataset.writer import FrameWriter
from tests.support.counter_env import CounterEnv
from tests.support.recordings import frames_artefact, open_folder, record_counter

GOLDEN = Path(__file__).parents[2] / "golden" / "frame_schema.txt"


def test_schema_is_the_written_standard(tmp_path):
    record_counter(tmp_path, [3])
    with pq.ParquetFile(tmp_path / "shard-00000.parquet") as file:
        assert str(file.schema_arrow.remove_metadata()) + "\n" == GOLDEN.read_text()


def test_any_parquet_reader_can_read_a_shard(tmp_path):
    record_counter(tmp_path, [3])
    table = pq.read_table(tmp_path / "shard-00000.parquet")
    rows = table.to_pylist()
    said = json.loads(table.schema.metadata[b"lapa_ray"])
    assert [row["step"] for row in rows] == [-1] + [0] * 4 + [1] * 4 + [2] * 4
    assert [row["frame_index"] for row in rows] == list(range(13))
    assert rows[0]["action"] == NO_ACTION
    assert rows[-1]["terminated"]
    assert len(rows[5]["screen"]) == said["height"] * said["width"]
    assert said["game"] == "Counter"
    assert bytes.fromhex(said["palette"])[3 * 7] == 7


def test_row_groups_hold_one_episode_and_at_most_512_rows(tmp_path):
    record_counter(tmp_path, [200, 5, 130])
    with pq.ParquetFile(tmp_path / "shard-00000.parquet") as file:
        for group in range(file.metadata.num_row_groups):
            ids = file.read_row_group(group, columns=["episode_id"]).column(0).to_pylist()
            assert len(set(ids)) == 1
            assert len(ids) <= 512


def test_an_unfinished_episode_is_marked_truncated(tmp_path):
    env = CounterEnv(length=100, height=4)
    with FrameWriter(tmp_path, env.info, "shard", "counter") as writer:
        writer.begin_episode(7)
        writer.append(NO_ACTION, env.reset(0).frames, False, False)
        writer.append(1, env.step(1).frames, False, False)
    steps = open_folder(tmp_path).steps(7)
    assert steps.truncated.tolist() == [True]
    assert steps.terminated.tolist() == [False]


def test_an_error_leaves_no_shard(tmp_path):
    env = CounterEnv(height=4)
    with pytest.raises(RuntimeError, match="boom"), FrameWriter(tmp_path, env.info, "shard", "counter") as writer:  # noqa: PT012
        writer.begin_episode(0)
        writer.append(NO_ACTION, env.reset(0).frames, True, False)
        writer.end_episode()
        raise RuntimeError("boom")
    assert list(tmp_path.iterdir()) == []


def test_a_new_writer_of_the_same_name_goes_on_counting(tmp_path):
    record_counter(tmp_path, [3])
    before = (tmp_path / "shard-00000.parquet").read_bytes()
    env = CounterEnv(length=1, height=4)
    with FrameWriter(tmp_path, env.info, "shard", "counter") as writer:
        writer.begin_episode(9)
        writer.append(NO_ACTION, env.reset(0).frames, True, False)
    assert (tmp_path / "shard-00000.parquet").read_bytes() == before
    assert open_folder(tmp_path).episode_ids == [0, 9]


def test_figures_are_read_back(tmp_path):
    record_counter(tmp_path, [3, 5])
    figures = frame_figures(tmp_path)
    assert (figures["num_episodes"], figures["num_steps"], figures["num_frames"]) == (2, 8, 34)
    assert figures["mean_return"] == (6 + 15) / 2


def test_executed_action_is_that_of_most_frames(tmp_path):
    env = CounterEnv(length=2, height=4)
    with FrameWriter(tmp_path, env.info, "shard", "counter") as writer:
        writer.begin_episode(0)
        writer.append(NO_ACTION, env.reset(0).frames, False, False)
        for executed in ([3, 3, 1, 3], [2, 4, 4, 2]):
            frames = env.step(1).frames
            frames.executed_actions[:] = executed
            writer.append(1, frames, False, False)
    assert open_folder(tmp_path).steps(0).executed_actions.tolist() == [3, 2]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text"])
def test_a_damaged_shard_is_named(tmp_path, damage):
    dataset = frames_artefact(tmp_path / "frames", [30, 30], height=40)
    shard = shard_paths(tmp_path / "frames")[0]
    data = bytearray(shard.read_bytes())
    if damage == "flipped":
        data[200:260] = bytes(byte ^ 255 for byte in data[200:260])
    damaged = {"truncated": data[: len(data) // 2], "flipped": data, "empty": b"", "text": b"hello"}[damage]
    shard.write_bytes(bytes(damaged))
    with pytest.raises(LapaError, match=r"shard-00000\.parquet"):
        FrameDataset.open(dataset.artefact.path).composites(0)


def test_a_foreign_and_a_future_shard_are_named(tmp_path):
    record_counter(tmp_path, [3])
    shard = tmp_path / "shard-00000.parquet"
    table = pq.read_table(shard)
    pq.write_table(table.replace_schema_metadata({}), shard)
    with pytest.raises(LapaError, match=r"shard-00000\.parquet: not a frame shard"):
        read_shards([shard])
    said = json.loads(table.schema.metadata[b"lapa_ray"]) | {"version": 99}
    pq.write_table(table.replace_schema_metadata({b"lapa_ray": json.dumps(said)}), shard)
    with pytest.raises(LapaError, match="version 99"):
        read_shards([shard])


def test_the_same_episode_twice_is_refused(tmp_path):
    record_counter(tmp_path, [3])
    shutil.copy(tmp_path / "shard-00000.parquet", tmp_path / "copy-00000.parquet")
    with pytest.raises(LapaError, match=r"episode 0 is in copy-00000\.parquet too"):
        read_shards(shard_paths(tmp_path))


def test_half_written_shards_are_passed_over(tmp_path):
    record_counter(tmp_path, [3])
    (tmp_path / ".tmp-shard-00001.parquet").write_bytes(b"half")
    assert open_folder(tmp_path).episode_ids == [0]


def test_pairs_that_do_not_fit_memory_are_refused(tmp_path):
    dataset = frames_artefact(tmp_path / "frames", [30, 30], height=40)
    with pytest.raises(LapaError, match="max_memory_gb"):
        PairStore.load(dataset, [0, 1], max_memory_gb=1e-6)


def test_a_split_of_one_episode_is_refused():
    with pytest.raises(LapaError, match="at least 2"):
        split_episodes([4], 0.1)


def test_held_out_share_is_about_right():
    train, held_out = split_episodes(range(2000), 0.1)
    assert 150 < len(held_out) < 250
    assert len(train) + len(held_out) == 2000
    assert np.all(np.diff(train) > 0)
