"""What the writer promises: whole episodes in whole shards, one row group of memory, nothing half-done in sight."""

import pyarrow.parquet as pq
import pytest

from lapa_ray.core.files import remove_leftovers, scratch_folder
from lapa_ray.core.frames import NO_ACTION
from lapa_ray.dataset.pairs import PairStore
from lapa_ray.dataset.schema import ROW_GROUP_ROWS
from lapa_ray.dataset.shards import shard_paths
from lapa_ray.dataset.writer import FrameWriter
from tests.support.counter_env import CounterEnv
from tests.support.recordings import open_folder, record_counter


@pytest.fixture
def env():
    return CounterEnv(length=10_000, height=4, frame_skip=1)


@pytest.fixture
def writer(tmp_path, env):
    with FrameWriter(tmp_path, env.info, "shard", "counter", rows_per_shard=30) as writer:
        yield writer


def write(writer, env, episode_id: int, num_rows: int, *, end: bool = True) -> None:
    writer.begin_episode(episode_id)
    writer.append(NO_ACTION, env.reset(episode_id).frames, terminated=False, truncated=False)
    for _ in range(num_rows - 1):
        writer.append(1, env.step(1).frames, terminated=False, truncated=False)
    if end:
        writer.end_episode()


@pytest.mark.parametrize("num_rows", [1, ROW_GROUP_ROWS - 1, ROW_GROUP_ROWS, ROW_GROUP_ROWS + 1, 2 * ROW_GROUP_ROWS])
def test_an_unfinished_episode_of_any_length_is_truncated_at_its_last_row(tmp_path, env, writer, num_rows):
    write(writer, env, 3, num_rows)
    writer.close()
    truncated = pq.read_table(shard_paths(tmp_path)[0]).column("truncated").to_pylist()
    assert truncated == [False] * (num_rows - 1) + [True]
    assert open_folder(tmp_path).num_steps(3) == num_rows - 1


def test_a_step_may_lie_across_row_groups(tmp_path):
    recording = record_counter(tmp_path, [ROW_GROUP_ROWS // 2])[0]
    dataset = open_folder(tmp_path)
    for step, picture in zip(recording.steps, dataset.composites(0, "last"), strict=True):
        assert (picture == step.frames.screens[-1]).all()


def test_shards_turn_over_after_whole_episodes(tmp_path, env, writer):
    for episode_id in range(5):
        write(writer, env, episode_id, 20)
    writer.close()
    rows = [pq.read_table(path).column("episode_id").to_pylist() for path in shard_paths(tmp_path)]
    assert [sorted(set(ids)) for ids in rows] == [[0, 1], [2, 3], [4]]
    assert [path.name for path in shard_paths(tmp_path)] == [f"shard-{number:05d}.parquet" for number in range(3)]


def test_a_shard_is_out_of_sight_until_it_is_whole(tmp_path, env, writer):
    write(writer, env, 0, 20)
    assert shard_paths(tmp_path) == []
    assert len(list(tmp_path.iterdir())) == 1
    writer.close()
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["shard-00000.parquet"]


def test_closing_ends_the_open_episode(tmp_path, env, writer):
    write(writer, env, 0, 5, end=False)
    writer.close()
    assert open_folder(tmp_path).steps(0).truncated.tolist() == [False] * 3 + [True]


def test_aborting_keeps_whole_shards_alone(tmp_path, env, writer):
    write(writer, env, 0, 40)
    write(writer, env, 1, 20)
    write(writer, env, 2, 3, end=False)
    writer.abort()
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["shard-00000.parquet"]
    assert open_folder(tmp_path).episode_ids == [0]


def test_rows_in_memory_stay_those_of_one_row_group(tmp_path, env, writer):
    write(writer, env, 0, 3 * ROW_GROUP_ROWS + 1, end=False)
    size = next(tmp_path.iterdir()).stat().st_size
    write_more = env.step(1).frames
    for _ in range(ROW_GROUP_ROWS):
        writer.append(1, write_more, terminated=False, truncated=False)
    assert next(tmp_path.iterdir()).stat().st_size > size


def test_an_episode_that_was_begun_only_is_none(tmp_path, env, writer):
    writer.begin_episode(0)
    writer.end_episode()
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_misuse_is_a_bug_that_is_told(env, writer):
    frames = env.reset(0).frames
    with pytest.raises(ValueError, match="append outside an episode"):
        writer.append(NO_ACTION, frames, terminated=False, truncated=False)
    writer.begin_episode(0)
    with pytest.raises(ValueError, match="episode 0 has not ended"):
        writer.begin_episode(1)
    writer.append(NO_ACTION, frames, terminated=True, truncated=False)
    with pytest.raises(ValueError, match="append outside an episode"):
        writer.append(1, frames, terminated=False, truncated=False)


def test_an_episode_without_steps_has_a_composite_and_no_pair(tmp_path, env, writer):
    write(writer, env, 0, 1)
    write(writer, env, 1, 4)
    writer.close()
    dataset = open_folder(tmp_path)
    assert dataset.composites(0).shape == (1, 4, 160)
    assert dataset.steps(0).actions.shape == dataset.steps(0).rewards.shape == (0,)
    assert len(PairStore.load(dataset, [0, 1, 0])) == 3


@pytest.mark.parametrize("num_rows", [1, ROW_GROUP_ROWS + 1])
def test_a_writer_that_outlives_its_run_puts_nothing_in_place(tmp_path, env, num_rows):
    """The next run takes the folder away, before the first row group is written or after it."""
    with scratch_folder(tmp_path) as scratch:
        writer = FrameWriter(tmp_path, env.info, "stale", "counter", rows_per_shard=1, scratch=scratch)
        write(writer, env, 0, num_rows, end=False)
        remove_leftovers(tmp_path)
        with pytest.raises(FileNotFoundError):
            writer.end_episode()
    assert list(tmp_path.iterdir()) == []
