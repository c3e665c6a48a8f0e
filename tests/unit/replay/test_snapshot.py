"""A replay buffer written to disk and read back samples the same."""

import numpy as np
import pytest

from lapa_ray.actors.replay_server import ReplayServer
from lapa_ray.core.errors import LapaError
from lapa_ray.replay.buffer import ReplayConfig
from lapa_ray.replay.chunk import Chunk
from lapa_ray.replay.snapshot import delete_states


def server(use_per: bool = True, capacity: int = 40) -> ReplayServer:
    config = ReplayConfig(capacity=capacity, min_size=5, spare_frames=64)
    return ReplayServer(
        config, frame_stack=3, use_per=use_per, batch_size=4, num_updates=50, seed=1, max_waiting_steps=1000
    )


def chunk(stream: int, first: int, count: int = 30) -> Chunk:
    numbers = np.arange(first, first + count)
    frames = np.broadcast_to((numbers % 256).astype(np.uint8)[:, None, None], (count, 84, 84))
    return Chunk(stream, frames, numbers % 10 == 0, numbers % 5, numbers.astype(np.float32), numbers % 10 == 9)


def assert_same_samples(first: ReplayServer, second: ReplayServer) -> None:
    for update in range(5):
        a, b = first.sample(update), second.sample(update)
        for name in ("windows", "actions", "rewards", "discounts", "weights", "ids"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        for one, batch in ((first, a), (second, b)):
            one.update_priorities(batch.ids, batch.rewards)


@pytest.mark.parametrize("use_per", [False, True])
@pytest.mark.parametrize("num_chunks", [1, 4], ids=["partly filled", "wrapped around"])
def test_a_restored_server_goes_on_alike(tmp_path, use_per, num_chunks):
    before, after = server(use_per), server(use_per)
    for index in range(num_chunks):
        before.insert([chunk(0, 30 * index), chunk(1, 1000 + 30 * index)])
    before.sample(0)
    before.save(tmp_path, "update-7")
    assert after.load(tmp_path, "update-7")
    after.check_valid()
    assert after.status() == before.status()
    assert_same_samples(before, after)
    for one in (before, after):  # streams go on across the snapshot
        one.insert([chunk(1, 1000 + 30 * num_chunks)])
    assert_same_samples(before, after)


def test_no_snapshot_is_told(tmp_path):
    assert not server().load(tmp_path, "update-7")


@pytest.mark.parametrize("damaged", ["update-7.npz", "update-7.frames.npy"])
def test_a_damaged_snapshot_is_named(tmp_path, damaged):
    before = server()
    before.insert([chunk(0, 0)])
    before.save(tmp_path, "update-7")
    path = tmp_path / damaged
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(LapaError, match=r"update-7.*delete it"):
        server().load(tmp_path, "update-7")


def test_a_snapshot_of_another_capacity_is_refused(tmp_path):
    before = server(capacity=20)
    for index in range(4):
        before.insert([chunk(0, 30 * index)])
    before.save(tmp_path, "update-7")
    with pytest.raises(LapaError, match="does not fit this replay buffer"):
        server(capacity=40).load(tmp_path, "update-7")


def test_deleting_keeps_the_one_named(tmp_path):
    one = server()
    one.insert([chunk(0, 0)])
    for name in ("update-1", "update-2"):
        one.save(tmp_path, name)
    delete_states(tmp_path, keep="update-2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["update-2.frames.npy", "update-2.npz"]
