"""The replay buffer: chunks of frames in, batches of transitions out. NumPy only; knows neither networks nor Ray."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from lapa_ray.core.config import Config, Fraction
from lapa_ray.core.errors import LapaError
from lapa_ray.replay.chunk import Batch, Chunk
from lapa_ray.replay.samplers import PrioritisedSampler, Sampler, UniformSampler
from lapa_ray.replay.transitions import TransitionStore


class ReplayConfig(Config):
    """The replay buffer that all workers share."""

    capacity: PositiveInt = 1_000_000
    """Transitions held; with stacks of 8 frames 7.3 kB each."""
    min_size: PositiveInt = 50_000
    """Transitions to hold before the first update (dqn_zoo's and Nature's value)."""
    samples_per_insert: float = Field(8.0, gt=0)
    """Transitions sampled for each one inserted, at any speed; 8 at batch 32 is one update every 4 agent steps."""
    alpha: Fraction = 0.6
    """PER: exponent of the priorities; 0 is uniform."""
    beta_start: Fraction = 0.4
    """PER: exponent of the importance weights at the first update."""
    beta_end: Fraction = 1.0
    """PER: the same at the last update; linear between."""
    actor_priorities: bool = False
    """PER: first priorities from the workers' own Q-values (Ape-X); otherwise the greatest priority seen."""
    spare_frames: Annotated[int, Field(ge=64)] | None = None
    """Frames held beyond the capacity, for resets and streams that wait; 2 % of it, at least 4096, if not given."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.beta_start > self.beta_end:
            raise ValueError(f"beta_start: should be at most beta_end ({self.beta_end}); got {self.beta_start}")
        return self


class ReplayBuffer:
    """A store of transitions and a sampler, kept in step."""

    def __init__(self, store: TransitionStore, sampler: Sampler) -> None:
        self.store = store
        self._sampler = sampler

    def __len__(self) -> int:
        return len(self.store)

    def add(self, chunks: Sequence[Chunk]) -> int:
        """Add the transitions of `chunks`; returns how many agent steps they held."""
        num_steps = self.store.append(chunks)
        self._sampler.hold(self.store.tail, self.store.head)
        return num_steps

    def sample(self, batch_size: int, beta: float = 1.0) -> Batch:
        """Draw `batch_size` held transitions, with replacement. Raises `ValueError` from an empty buffer."""
        if not len(self):
            raise ValueError("cannot sample from an empty buffer")
        ids, weights = self._sampler.sample(batch_size, beta)
        return Batch(*self.store.gather(ids), weights=weights, ids=ids)

    def update_priorities(self, ids: NDArray[np.int64], td_errors: NDArray[np.float32]) -> None:
        """Tell the |TD errors| float32 [n] of sampled `ids` int64 [n]; overwritten ones are dropped."""
        self._sampler.update(ids, td_errors)

    def get_state(self) -> dict[str, Any]:
        """State of store and sampler, as nested dicts of arrays (views) and numbers."""
        return {"store": self.store.get_state(), "sampler": self._sampler.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over the state of a buffer of the same config."""
        self.store.set_state(state["store"])
        self._sampler.set_state(state.get("sampler", {}))
        self._sampler.hold(self.store.tail, self.store.head)

    def check_valid(self) -> None:
        """Raise `AssertionError` if anything in it disagrees."""
        self.store.check_valid()
        self._sampler.check_valid()


def build_replay(
    config: ReplayConfig,
    *,
    frame_stack: int,
    use_per: bool,
    generator: np.random.Generator,
    shape: tuple[int, ...] = (84, 84),
) -> ReplayBuffer:
    """The buffer that `config` describes, uniform or prioritised, drawing from `generator`.

    Raises `LapaError` where there is no memory for it.
    """
    try:
        store = TransitionStore(config.capacity, frame_stack, shape, config.spare_frames)
        sampler = PrioritisedSampler(config.capacity, config.alpha, generator) if use_per else UniformSampler(generator)
    except MemoryError as error:
        raise LapaError(
            f"--replay.capacity {config.capacity}: {config.capacity * math.prod(shape) / 1e9:,.0f} GB of frames, more "
            "than this node has memory for; lower it."
        ) from error
    return ReplayBuffer(store, sampler)


def beta_at(config: ReplayConfig, progress: float) -> float:
    """β after the share `progress` of the updates, in [0, 1]."""
    return config.beta_start + (config.beta_end - config.beta_start) * min(max(progress, 0.0), 1.0)
