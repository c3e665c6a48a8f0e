"""Exploration: agent steps of all workers in, the share of random actions of each environment out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from lapa_ray.core.config import Config


class ExplorationConfig(Config):
    """ε of all workers: max(minimum, base^(t / decay_steps)), t the agent steps of all workers."""

    base: float = Field(0.1, gt=0, le=1)
    """Share of random actions, in [0, 1], after decay_steps steps: the base of the power."""
    decay_steps: PositiveInt = 1_000_000
    """Agent steps after which ε has come down to base."""
    minimum: float = Field(0.1, ge=0, le=1)
    """Share of random actions, in [0, 1], that ε never falls below; on a ladder that is its top."""
    ladder: bool = False
    """Environment i of all N plays with ε^(1 + ladder_steepness · i / (N − 1)): from ε, which is logged, downwards."""
    ladder_steepness: float = Field(7.0, ge=0)
    """How far down the ladder leads, an exponent (α of Horgan et al. 2018, Ape-X); unused without ladder."""

    def epsilon(self, num_steps: int) -> float:
        """ε after so many agent steps."""
        return float(max(self.minimum, self.base ** (num_steps / self.decay_steps)))

    def ladder_of(self, num_envs: int) -> Ladder:
        """The ladder of `num_envs` environments; a flat one where none is asked for."""
        return Ladder(num_envs, self.ladder_steepness if self.ladder else 0.0)


@dataclass(frozen=True)
class Ladder:
    """Which ε each of `num_envs` environments plays with (Ape-X, Horgan et al. 2018).

    Rung i = place of the worker × environments a worker + number of the environment in it. A place is the worker's in
    the pool, from 0: who takes over a dead worker's place, or resumes a run, plays with that worker's ε.
    """

    num_envs: int = 1
    steepness: float = 0.0

    def epsilons(self, epsilon: float, rungs: Sequence[int]) -> NDArray[np.float64]:
        """ε float64 [len(rungs)] of the environments on `rungs`, where ε of the run is `epsilon`."""
        share = np.asarray(rungs, dtype=np.float64) / max(self.num_envs - 1, 1)
        return np.float64(epsilon) ** (1 + self.steepness * share)
