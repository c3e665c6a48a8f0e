"""The replay server: the one shared buffer and its limiter behind one door. A plain class; Ray wraps it.

Chunks of frames come from workers, batches go to the learner, priorities come back. It never blocks: whoever may not
go on is told so and asks again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from lapa_ray.core.seeds import generator_for
from lapa_ray.replay.buffer import ReplayConfig, beta_at, build_replay
from lapa_ray.replay.chunk import Batch, Chunk
from lapa_ray.replay.rate_limiter import RateLimiter
from lapa_ray.replay.snapshot import load_state, save_state

ERROR_BUFFER_BATCHES = 32
"""Batches that may wait for the learner before workers must wait."""


class ReplayServer:
    """Holds what the workers saw, and keeps the ratio of samples to inserts."""

    def __init__(
        self, config: ReplayConfig, *, frame_stack: int, use_per: bool, batch_size: int, num_updates: int, seed: int
    ) -> None:
        """`num_updates` is what β is annealed over."""
        self._config, self._num_updates = config, num_updates
        self._generator = generator_for(seed, "replay")
        self._buffer = build_replay(config, frame_stack=frame_stack, use_per=use_per, generator=self._generator)
        self._limiter = RateLimiter(
            config.samples_per_insert, config.min_size, error_buffer=ERROR_BUFFER_BATCHES * batch_size
        )

    def insert(self, chunks: Sequence[Chunk]) -> int:
        """Add `chunks`; returns how many agent steps they held."""
        num_steps = self._buffer.add(chunks)
        self._limiter.count_inserts(num_steps)
        return num_steps

    def may_insert(self, count: int) -> bool:
        """Whether workers may play `count` steps more now."""
        return self._limiter.may_insert(count, len(self._buffer))

    def sample(self, batch_size: int, num_updates_done: int) -> Batch | None:
        """A batch, or None while the inserts have not earned one."""
        if self._limiter.allowed_samples(len(self._buffer)) < batch_size:
            return None
        self._limiter.count_samples(batch_size)
        return self._buffer.sample(batch_size, self.beta(num_updates_done))

    def update_priorities(self, ids: NDArray[np.int64], td_errors: NDArray[np.float32]) -> None:
        """Tell the TD errors of sampled transitions; those overwritten since are dropped."""
        self._buffer.update_priorities(ids, td_errors)

    def beta(self, num_updates_done: int) -> float:
        """β after so many updates."""
        return beta_at(self._config, num_updates_done / max(self._num_updates, 1))

    def stats(self) -> dict[str, int]:
        """Counts: transitions held and skipped, steps inserted, transitions sampled."""
        return {
            "size": len(self._buffer),
            "skipped": self._buffer.store.num_skipped,
            "inserts": self._limiter.num_inserts,
            "samples": self._limiter.num_samples,
        }

    def save(self, folder: Path, name: str, *, with_frames: bool) -> None:
        """Write a snapshot; without frames only the limiter's counts, and the buffer fills anew on resume."""
        state: dict[str, Any] = {"limiter": self._limiter.get_state()}
        if with_frames:
            state["buffer"] = self._buffer.get_state()
            state["generator"] = _generator_state(self._generator)
        save_state(folder, name, state)

    def load(self, folder: Path, name: str) -> bool:
        """Take over a snapshot; returns whether there was one."""
        state = load_state(folder, name)
        if state is None:
            return False
        self._limiter.set_state(state["limiter"])
        if "buffer" in state:
            self._buffer.set_state(state["buffer"])
            _set_generator_state(self._generator, state["generator"])
        else:
            self._limiter.forgive_refill()
        return True

    def check_valid(self) -> None:
        """Raise `AssertionError` if anything in it disagrees."""
        self._buffer.check_valid()
        self._limiter.check_valid()


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
