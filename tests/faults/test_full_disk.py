"""A disk that fills up while something is written: what is whole stays, what is not never shows, and it is told."""

import errno
import re
import subprocess

import numpy as np
import pytest
import torch

from lapa_ray import cli
from lapa_ray.core.files import replacing
from lapa_ray.core.frames import NO_ACTION
from lapa_ray.dataset.writer import FrameWriter
from lapa_ray.models.checkpoint import save_checkpoint
from lapa_ray.replay.snapshot import save_state
from tests.support.counter_env import CounterEnv
from tests.support.made_artefacts import counter_codes, counter_frames, made_vqvae
from tests.support.recordings import open_folder
from tests.support.small_disk import fill, mounted_tmpfs

pytestmark = pytest.mark.shared_ray


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 1 MB."""
    with mounted_tmpfs(tmp_path / "disk", "size=1m") as disk:
        yield disk


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


def assert_told(error: BaseException, path) -> None:
    """Whatever the library said of it, it is the lack of space, of the file that was meant, and nothing is left."""
    assert isinstance(error, OSError)
    assert (error.errno, error.filename) == (errno.ENOSPC, str(path))
    assert not path.exists()
    assert list(path.parent.iterdir()) == []


def test_a_checkpoint_that_does_not_fit(small_disk):
    """torch.save says "RuntimeError: unexpected pos" of it."""
    with pytest.raises(OSError, match="No space left") as error:
        save_checkpoint(small_disk / "last.pt", {"weights": torch.zeros(2**20)})
    assert_told(error.value, small_disk / "last.pt")


def test_a_replay_buffer_that_does_not_fit(small_disk):
    """np.save gives its OSError neither number nor file."""
    with pytest.raises(OSError, match="No space left") as error:
        save_state(small_disk, "s", {"buffer": {"store": {"frames": {"frames": np.zeros(2**21, np.uint8)}}}})
    assert_told(error.value, small_disk / "s.frames.npy")


def test_other_faults_on_a_full_disk_are_told_as_they_are(small_disk):
    fill(small_disk / "ballast")
    with pytest.raises(ZeroDivisionError), replacing(small_disk / "a"):
        raise ZeroDivisionError
    with pytest.raises(FileNotFoundError), replacing(small_disk / "a"):
        (small_disk / "none").read_bytes()


def test_a_fault_on_a_disk_with_room_is_told_as_it_is(tmp_path):
    with pytest.raises(RuntimeError, match="unexpected pos"), replacing(tmp_path / "a"):
        raise RuntimeError("unexpected pos")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def codes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    frames = counter_frames(folder / "frames", dict.fromkeys(range(4), 6))
    return counter_codes(folder / "codes", folder / "frames", made_vqvae(folder / "vqvae", frames)).path


@pytest.fixture
def train_on_small_disk(codes, tmp_path, capfd):
    """Trains a world model of 86 MB on a disk of 70: the folder, what is said, and the same once there is room."""
    with mounted_tmpfs(tmp_path / "disk", "size=70m") as disk:
        command = [
            *("train-world-model", f"--codes={codes}", f"--out={disk / 'out'}", "--wandb.mode=disabled"),
            *("--model.hidden=1536", "--model.embedding=8", "--training.max_updates=1", "--training.batch_size=2"),
            *("--ray.object_store_mb=80", "--resources.device=cpu"),
        ]

        def run(num_workers: int) -> None:
            assert cli.main([*command, f"--resources.num_workers={num_workers}"]) == 2
            said = capfd.readouterr().err.splitlines()[-1]
            assert re.match(r"lapa-ray train-world-model: (no disk space .*)?No space left on device: ", said), said
            assert str(disk / "out" / "checkpoints" / "best.pt") in said
            assert said.endswith("Make room, then add --resume.")
            assert not [path for path in disk.rglob("*") if path.name.startswith(".tmp-")]

        def run_with_room() -> None:
            subprocess.run(["mount", "-o", "remount,size=700m", disk], check=True)
            assert cli.main([*command, "--resources.num_workers=0", "--resume"]) == 0, capfd.readouterr().err

        yield run, run_with_room


def test_a_stage_whose_checkpoint_does_not_fit_says_so_and_goes_on_when_there_is_room(train_on_small_disk):
    run, run_with_room = train_on_small_disk
    run(num_workers=0)
    run_with_room()


def test_a_checkpoint_of_rays_workers_that_does_not_fit(train_on_small_disk):
    run, _ = train_on_small_disk
    run(num_workers=1)
