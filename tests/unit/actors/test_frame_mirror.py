"""Batches through a mirror of the frames are those that the server itself would have gathered."""

import numpy as np
import pytest
import torch

from lapa_ray.actors import frame_mirror, replay_server
from lapa_ray.actors.frame_mirror import FrameMirror
from lapa_ray.actors.learner import Learner, LearnerConfig, LearnerResources
from lapa_ray.actors.replay_server import ReplayServer
from lapa_ray.core.errors import LapaError
from lapa_ray.models.q_network import QNetworkConfig
from lapa_ray.replay.buffer import ReplayConfig
from lapa_ray.replay.chunk import Chunk, FrameBlock

CPU = torch.device("cpu")


def server(**fields) -> ReplayServer:
    config = ReplayConfig(capacity=60, min_size=5, spare_frames=64, n_step=3, samples_per_insert=100, **fields)
    return ReplayServer(
        config, frame_stack=4, use_per=True, batch_size=8, num_updates=50, seed=1, max_waiting_steps=1000, gamma=0.9
    )


def chunk(stream: int, first: int, count: int = 15) -> Chunk:
    numbers = np.arange(first, first + count)
    frames = np.broadcast_to((numbers % 251 + stream).astype(np.uint8)[:, None, None], (count, 84, 84))
    return Chunk(stream, frames, numbers % 20 == 0, numbers % 5, numbers.astype(np.float32), numbers % 20 == 19)


class Mirroring:
    """What `MirrorSource` does, in this process: the next batch is asked for before the last answer is taken in."""

    def __init__(self, server: ReplayServer, name: str = "mirror") -> None:
        self._server, self._name = server, name
        self.mirror = self._caught_up()

    def _caught_up(self) -> FrameMirror:
        block = self._server.frames_since(self._name, 0)
        mirror = FrameMirror(block.capacity, block.frames.shape[1:], CPU)
        while len(block.frames):
            mirror.append(block)
            block = self._server.frames_since(self._name, mirror.next_id)
        return mirror

    def take(self, answer):
        drawn, block = answer
        self.mirror.append(block)
        return drawn.with_windows(self.mirror.windows(drawn.slots).numpy())


@pytest.mark.parametrize("num_before", [1, 8], ids=["from the start", "after a wrap-around"])
def test_batches_are_the_same_with_and_without_a_mirror(num_before, monkeypatch):
    monkeypatch.setattr(replay_server, "MAX_BLOCK_FRAMES", 7)
    plain, mirrored = server(), server()
    for index in range(num_before):
        for one in (plain, mirrored):
            one.insert([chunk(0, 15 * index), chunk(100, 15 * index)])
    mirroring = Mirroring(mirrored)
    asked, expected = [], []
    for update in range(40):
        asked.append(mirrored.sample_slots(update, "mirror"))
        expected.append(plain.sample(update))
        for one in (plain, mirrored):
            one.insert([chunk(0, 15 * (num_before + update))])
        if update:
            compare(mirroring.take(asked[update - 1]), expected[update - 1])
    assert mirrored._buffer.store.frames.oldest_id > 300


def compare(mirrored, plain) -> None:
    for name in ("ids", "windows", "actions", "rewards", "discounts", "weights"):
        np.testing.assert_array_equal(getattr(mirrored, name), getattr(plain, name))
    np.testing.assert_array_equal(mirrored.obs_t, plain.obs_t)


def test_each_frame_crosses_once():
    one = server()
    mirroring, crossed = Mirroring(one), 0
    for update in range(20):
        one.insert([chunk(0, 15 * update)])
        answer = one.sample_slots(update, "mirror")
        crossed += len(answer[1].frames)
        mirroring.take(answer)
    assert crossed == one._buffer.store.frames.next_id == 300


def test_a_mirror_that_begins_anew_is_given_all_again():
    one = server()
    for update in range(10):
        one.insert([chunk(0, 15 * update)])
    Mirroring(one, "a dead learner's")
    second, twin = Mirroring(one), server()
    for update in range(10):
        twin.insert([chunk(0, 15 * update)])
    compare(second.take(one.sample_slots(0, "mirror")), twin.sample(0))


def test_a_call_that_a_dead_learner_left_behind_takes_nothing_from_its_successors_mirror():
    one, twin = server(), server()
    for given in (one, twin):
        given.insert([chunk(0, 0, count=60)])
    Mirroring(one, "a dead learner's")
    successor = Mirroring(one, "its successor's")
    for given in (one, twin):
        given.insert([chunk(0, 60)])
    one.sample_slots(0, "a dead learner's")
    twin.sample(0)
    compare(successor.take(one.sample_slots(1, "its successor's")), twin.sample(1))


def test_an_answer_out_of_order_is_refused():
    mirror = FrameMirror(10, (2, 2), CPU)
    frames = np.zeros((3, 2, 2), dtype=np.uint8)
    mirror.append(FrameBlock(0, 0, frames, 10))
    with pytest.raises(ValueError, match="frames from 5 on, but the mirror has those up to 3"):
        mirror.append(FrameBlock(5, 5, frames, 10))


def test_a_device_without_room_is_told():
    with pytest.raises(LapaError, match=r"^--resources\.mirror: the replay's frames take 70,560,000\.0 GB, more than"):
        FrameMirror(10**13, (84, 84), CPU)


@pytest.mark.parametrize(
    ("mirror", "num_gpus", "is_mirrored"),
    [("auto", 0, False), ("auto", 1, True), ("on", 0, True), ("off", 1, False)],
)
def test_a_learner_with_a_gpu_mirrors_unless_told_otherwise(mirror, num_gpus, is_mirrored, monkeypatch):
    monkeypatch.setattr(frame_mirror, "num_gpus", lambda device: num_gpus)
    source = frame_mirror.batch_source(None, LearnerResources(mirror=mirror), wants_td_errors=True)
    assert isinstance(source, frame_mirror.MirrorSource) == is_mirrored


def test_a_learner_learns_the_same_from_windows_on_its_device():
    network = QNetworkConfig(channels=(4, 8, 8), hidden=16, frame_stack=4)
    resources = LearnerResources(device="cpu", num_threads=1)
    learners = [Learner(5, network, LearnerConfig(batch_size=8), resources, 0, None) for _ in range(2)]
    one = server()
    one.insert([chunk(0, 0, count=60)])
    drawn = one._buffer.sample_slots(8)
    windows = one._buffer.store.frames.take(drawn.slots)
    told = [
        learner.update(drawn.with_windows(given))[0]
        for learner, given in zip(learners, (windows, torch.tensor(windows)), strict=True)
    ]
    np.testing.assert_array_equal(*told)


def test_the_batches_of_a_message_are_those_of_single_ones():
    one, twin = server(), server()
    for given in (one, twin):
        given.insert([chunk(0, 0, count=60)])
    for many, single in zip(one.sample_many(0, 3), [twin.sample(update) for update in range(3)], strict=True):
        compare(many, single)
    Mirroring(one)
    assert len(one.sample_slots_many(3, 2, "mirror")) == 2
    with pytest.raises(ValueError, match="not earned another batch"):
        one.sample_many(5, 10_000)
