"""A disk that fills up while frames are written: what is whole stays, what is not never shows."""

import errno
import os
import shutil
import subprocess

import numpy as np
import pytest

from lapa_ray.core.frames import NO_ACTION
from lapa_ray.dataset.writer import FrameWriter
from tests.support.counter_env import CounterEnv
from tests.support.recordings import open_folder


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a tmpfs needs root")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"this machine lets nobody mount a tmpfs: {done.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def write_noise(writer: FrameWriter, env: CounterEnv, episode_id: int, num_steps: int) -> None:
    generator = np.random.default_rng(episode_id)
    writer.begin_episode(episode_id)
    writer.append(NO_ACTION, env.reset(episode_id).frames, terminated=False, truncated=False)
    for _ in range(num_steps):
        frames = env.step(1).frames
        frames.screens[:] = generator.integers(0, 256, frames.screens.shape, dtype=np.uint8)
        writer.append(1, frames, terminated=False, truncated=False)
    writer.end_episode()


def write_until_full(disk, env: CounterEnv) -> None:
    with FrameWriter(disk, env.info, "shard", "noise", rows_per_shard=1) as writer:
        for episode_id in range(100):
            write_noise(writer, env, episode_id, 30)


def test_whole_shards_stay_and_nothing_else_does(small_disk):
    env = CounterEnv(length=10_000, height=16)
    with pytest.raises(OSError, match="No space left") as error:
        write_until_full(small_disk, env)
    assert error.value.errno == errno.ENOSPC
    assert all(not path.name.startswith(".tmp-") for path in small_disk.iterdir())
    dataset = open_folder(small_disk)
    assert dataset.episode_ids == [0, 1, 2]
    assert all(dataset.num_steps(episode_id) == 30 for episode_id in dataset.episode_ids)
