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
from lapa_ray.replay.chunk import Batch, Chunk, SlotBatch
from lapa_ray.replay.samplers import PrioritisedSampler, Sampler, UniformSampler
from lapa_ray.replay.transitions import TransitionStore, least_spare_frames


class ReplayConfig(Config):
    """The replay buffer that all workers share."""

    capacity: PositiveInt = 1_000_000
    """Transitions held; 7.3 kB each, whatever the stack."""
    n_step: PositiveInt = 1
    """Agent steps whose discounted rewards a transition sums up before its target looks at a value (Rainbow has 3)."""
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
        if self.n_step > self.capacity:
            raise ValueError(f"n_step: should be at most capacity ({self.capacity}); got {self.n_step}")
        return self


class ReplayBuffer:
    """A store of transitions and a sampler, kept in step."""

    def __init__(self, store: TransitionStore, sampler: Sampler, *, actor_priorities: bool = False) -> None:
        """`actor_priorities`: whether the Q-values in chunks give new transitions their first priorities."""
        self.store = store
        self._sampler, self._actor_priorities = sampler, actor_priorities

    def __len__(self) -> int:
        return len(self.store)

    def add(self, chunks: Sequence[Chunk]) -> int:
        """Add the transitions that `chunks` complete; returns how many agent steps they held."""
        td_errors = self.store.append(chunks)
        self._sampler.hold(self.store.tail, self.store.head, td_errors if self._actor_priorities else None)
        return sum(chunk.num_steps for chunk in chunks)

    def sample(self, batch_size: int, beta: float = 1.0) -> Batch:
        """Draw `batch_size` held transitions, with replacement. Raises `ValueError` from an empty buffer."""
        drawn = self.sample_slots(batch_size, beta)
        return drawn.with_windows(self.store.frames.take(drawn.slots))

    def sample_slots(self, batch_size: int, beta: float = 1.0) -> SlotBatch:
        """The same draw, its frames told by slot."""
        if not len(self):
            raise ValueError("cannot sample from an empty buffer")
        ids, weights = self._sampler.sample(batch_size, beta)
        return SlotBatch(*self.store.columns(ids), weights=weights, ids=ids, n_step=self.store.n_step)

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
    gamma: float,
    shape: tuple[int, ...] = (84, 84),
) -> ReplayBuffer:
    """The buffer that `config` describes, uniform or prioritised, drawing from `generator`; `gamma`: discount a step.

    Raises `LapaError` where there is no memory for it, or too few spare frames.
    """
    spare, least = config.spare_frames, least_spare_frames(frame_stack, config.n_step)
    if spare is not None and spare < least:
        raise LapaError(f"--replay.spare_frames {spare}: should be at least {least}, 4 × (frame_stack + n_step).")
    try:
        store = TransitionStore(config.capacity, frame_stack, shape, spare, n_step=config.n_step, gamma=gamma)
        sampler = PrioritisedSampler(config.capacity, config.alpha, generator) if use_per else UniformSampler(generator)
    except MemoryError as error:
        raise LapaError(
            f"--replay.capacity {config.capacity}: {config.capacity * math.prod(shape) / 1e9:,.0f} GB of frames, more "
            "than this node has memory for; lower it."
        ) from error
    return ReplayBuffer(store, sampler, actor_priorities=config.actor_priorities)


def beta_at(config: ReplayConfig, progress: float) -> float:
    """β after the share `progress` of the updates, in [0, 1]."""
    return config.beta_start + (config.beta_end - config.beta_start) * min(max(progress, 0.0), 1.0)
