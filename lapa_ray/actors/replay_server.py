"""The replay server: the one shared buffer and its limiter behind one door. A plain class; Ray wraps it.

Chunks of frames come from workers, batches go to the learner, priorities come back. It never blocks: `status` says what
the limiter allows, and who drives the actors keeps to it. One that takes the place of a dead one goes on from the
newest snapshot and the counts of the run: what was inserted since the snapshot is lost, without one everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from lapa_ray.core.errors import LapaError
from lapa_ray.core.seeds import generator_for
from lapa_ray.replay.buffer import ReplayConfig, beta_at, build_replay
from lapa_ray.replay.chunk import Batch, Chunk, FrameBlock, SlotBatch
from lapa_ray.replay.rate_limiter import RateLimiter
from lapa_ray.replay.snapshot import load_state, save_state

MAX_BLOCK_FRAMES = 4096
"""Frames in one answer to a mirror that catches up."""


@dataclass(frozen=True)
class ReplayStatus:
    """Transitions held, steps inserted, steps skipped (their past was lost), and what the limiter allows now.

    `num_extra_inserts`: steps on top of the run's, played and to be played, that fill a buffer again that was lost.
    `allowed_inserts`: steps that may be played beyond those inserted, infinite while the buffer is filling. `counts`:
    the limiter's, for a server that has to go on from here.
    """

    size: int
    num_inserts: int
    num_skipped: int
    num_extra_inserts: int
    allowed_batches: int
    allowed_inserts: float
    counts: dict[str, Any]


class ReplayServer:
    """Holds what the workers saw, and keeps the ratio of samples to inserts."""

    def __init__(
        self,
        config: ReplayConfig,
        *,
        frame_stack: int,
        use_per: bool,
        batch_size: int,
        num_updates: int,
        seed: int,
        max_waiting_steps: int,
        gamma: float,
        obs_shape: tuple[int, ...] = (84, 84),
    ) -> None:
        """`num_updates`: what β is annealed over; `max_waiting_steps`: how far workers may run ahead of the learner;
        `gamma`: the learner's discount a step.
        """
        self._config, self._batch_size, self._num_updates = config, batch_size, num_updates
        self._use_per = use_per
        self._mirrored_ids: dict[str, int] = {}
        self._generator = generator_for(seed, "replay")
        self._buffer = build_replay(
            config,
            frame_stack=frame_stack,
            use_per=use_per,
            generator=self._generator,
            gamma=gamma,
            shape=obs_shape,
        )
        self._limiter = RateLimiter(
            config.samples_per_insert, config.min_size, config.samples_per_insert * max_waiting_steps + batch_size
        )

    def insert(self, chunks: Sequence[Chunk]) -> int:
        """Add `chunks`; returns how many agent steps they held."""
        num_steps = self._buffer.add(chunks)
        self._limiter.count_inserts(num_steps)
        self._limiter.end_refill(len(self._buffer))
        return num_steps

    def sample(self, num_updates_done: int) -> Batch:
        """The batch of the update after `num_updates_done`; of one that is made again, another one that counts once.

        Raises `ValueError` while the inserts have not earned it: ask `status` first.
        """
        self._count_sample(num_updates_done)
        return self._buffer.sample(self._batch_size, self.beta(num_updates_done))

    def sample_many(self, num_updates_done: int, count: int) -> list[Batch]:
        """The batches of `count` updates: a message costs its two ends and Ray as much as the work for ten batches."""
        return [self.sample(num_updates_done + number) for number in range(count)]

    def sample_slots_many(self, num_updates_done: int, count: int, mirror: str) -> list[tuple[SlotBatch, FrameBlock]]:
        """The same for the mirror of that name; see `sample_slots`."""
        return [self.sample_slots(num_updates_done + number, mirror) for number in range(count)]

    def sample_slots(self, num_updates_done: int, mirror: str) -> tuple[SlotBatch, FrameBlock]:
        """The same batch for the mirror of that name: where its frames lie, and all that the mirror was not given yet.

        The mirror takes answers in their order, so that it is just as the ring was when the batch was drawn. Calls that
        a dead learner left behind ask for its own mirror, and take nothing from its successor's.
        """
        self._count_sample(num_updates_done)
        drawn = self._buffer.sample_slots(self._batch_size, self.beta(num_updates_done))
        return drawn, self._block_since(mirror, self._mirrored_ids[mirror], self._buffer.store.frames.capacity)

    def frames_since(self, mirror: str, frame_id: int) -> FrameBlock:
        """Frames for a mirror that has those before `frame_id`: from there on, at most 4,096 (29 MB)."""
        return self._block_since(mirror, frame_id, MAX_BLOCK_FRAMES)

    def update_priorities(self, ids: NDArray[np.int64], td_errors: NDArray[np.float32]) -> None:
        """Tell the TD errors of sampled transitions; those overwritten since are dropped."""
        self._buffer.update_priorities(ids, td_errors)

    def beta(self, num_updates_done: int) -> float:
        """β after so many updates; 0 for uniform replay, which has no bias to correct."""
        if not self._use_per:
            return 0.0
        return beta_at(self._config, num_updates_done / max(self._num_updates, 1))

    def status(self, num_updates_done: int | None = None) -> ReplayStatus:
        """Counts, and what the limiter allows.

        `num_updates_done`: the learner's updates, where none is under way: a dead learner's last samples do not count.
        """
        if num_updates_done is not None:
            self._limiter.set_samples(num_updates_done * self._batch_size)
        size = len(self._buffer)
        return ReplayStatus(
            size=size,
            num_inserts=self._limiter.num_inserts,
            num_skipped=self._buffer.store.num_skipped,
            num_extra_inserts=self._limiter.num_extra_inserts(size),
            allowed_batches=self._limiter.allowed_samples(size) // self._batch_size,
            allowed_inserts=self._limiter.allowed_inserts(size),
            counts=self._limiter.get_state(),
        )

    def save(self, folder: Path, name: str) -> None:
        """Write a snapshot of everything."""
        save_state(folder, name, self.get_state())

    def load(self, folder: Path, name: str) -> bool:
        """Take over a snapshot; returns whether there was one. Raises `LapaError` if it is damaged or does not fit."""
        state = load_state(folder, name)
        if state is None:
            return False
        try:
            self.set_state(state)
        except (KeyError, ValueError) as error:
            raise LapaError(f"{folder / name}: does not fit this replay buffer ({error}); delete it.") from error
        return True

    def get_state(self) -> dict[str, Any]:
        """Buffer (views of its arrays), limiter and generator, as nested dicts of arrays and numbers."""
        return {
            "buffer": self._buffer.get_state(),
            "limiter": self._limiter.get_state(),
            "generator": _generator_state(self._generator),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over the state of a server of the same config. Raises `KeyError` or `ValueError` if it does not fit."""
        self._buffer.set_state(state["buffer"])
        self._limiter.set_state(state["limiter"])
        _set_generator_state(self._generator, state["generator"])

    def go_on(self, counts: dict[str, Any], num_steps: int, num_updates: int) -> ReplayStatus:
        """Go on where a run is, with what a snapshot brought back of its buffer; it fills anew up to `min_size`.

        `counts` are the limiter's as they were last known, `num_steps` and `num_updates` the run's own.
        """
        num_inserts = max(num_steps, counts["inserts"])  # what a worker inserted before it died is not in the run's
        self._limiter.set_state(counts | {"inserts": num_inserts, "samples": num_updates * self._batch_size})
        self._limiter.refill(len(self._buffer))
        return self.status()

    def check_valid(self) -> None:
        """Raise `AssertionError` if anything in it disagrees."""
        self._buffer.check_valid()
        self._limiter.check_valid()

    def _count_sample(self, num_updates_done: int) -> None:
        self._limiter.set_samples(num_updates_done * self._batch_size)
        if self._limiter.allowed_samples(len(self._buffer)) < self._batch_size:
            raise ValueError("the inserts have not earned another batch")
        self._limiter.count_samples(self._batch_size)

    def _block_since(self, mirror: str, frame_id: int, max_frames: int) -> FrameBlock:
        block = self._buffer.store.frames.block_since(frame_id, max_frames)
        self._mirrored_ids[mirror] = block.end_id
        return block


def _generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """PCG64's state as arrays: its integers have 128 bits."""
    state: Any = generator.bit_generator.state
    numbers = (state["state"]["state"], state["state"]["inc"])
    return {
        "numbers": np.array([str(number) for number in numbers]),
        "has_uint32": state["has_uint32"],
        "uinteger": state["uinteger"],
    }


def _set_generator_state(generator: np.random.Generator, saved: dict[str, Any]) -> None:
    number, increment = (int(text) for text in saved["numbers"])
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": number, "inc": increment},
        "has_uint32": int(saved["has_uint32"]),
        "uinteger": int(saved["uinteger"]),
    }


ReplayServerActor = ray.remote(ReplayServer)
