"""What an environment is to the rest of the house: steps in, observations and emulator frames out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.frames import GameInfo, StepFrames
from lapa_ray.envs.emulator import EmulatorState

Observation = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Step:
    """What one agent step gave. Arrays are the receiver's: no later step overwrites them; frames may be read-only.

    obs uint8 [height, width] grey, or [height, width, 3] RGB; reward the raw score; terminated and truncated as in
    Gymnasium; frames of the emulator, all of the step, or the last one alone where nobody records them.
    """

    obs: Observation
    reward: float
    terminated: bool
    truncated: bool
    frames: StepFrames

    @property
    def is_last(self) -> bool:
        """Whether the episode ends with this step."""
        return self.terminated or self.truncated


class Environment(Protocol):
    """A game: reset by a seed that decides all of its chance, then stepped until `is_last`."""

    info: GameInfo

    @property
    def num_actions(self) -> int:
        """How many actions there are; an action is an index below it."""

    def reset(self, seed: int) -> Step:
        """Start the episode that `seed` spells; reward 0 and one frame, whose executed action is NO_ACTION."""

    def step(self, action: int) -> Step:
        """One agent step."""


class RestorableEnvironment(Environment, Protocol):
    """An environment whose game can be tried out from where it is."""

    def snapshot(self) -> EmulatorState:
        """Where the game is now; the chance to come is no part of it."""


class FrameStack:
    """The last `size` observations of one episode, oldest first; at its start the first one fills all places.

    Stacks are read-only views of a roll that grows: they cost no copy, and no later observation changes them.
    """

    ROLL_STEPS = 64

    def __init__(self, size: int) -> None:
        self._size = size
        self._roll: Observation | None = None
        self._end = 0

    def reset(self, obs: Observation) -> Observation:
        """Begin an episode; returns the stack uint8 [size, *obs.shape]."""
        self._begin_roll(np.repeat(obs[None], self._size, axis=0))
        return self._stack()

    def push(self, obs: Observation) -> Observation:
        """Add the newest observation, after a reset; returns the stack uint8 [size, *obs.shape]."""
        if self._roll is None:
            raise ValueError("push before reset")
        if self._end == len(self._roll):
            self._begin_roll(self._roll[self._end - self._size :])
        self._roll[self._end] = obs
        self._end += 1
        return self._stack()

    def _begin_roll(self, first: Observation) -> None:
        self._roll = np.empty((self._size + self.ROLL_STEPS, *first.shape[1:]), dtype=np.uint8)
        self._roll[: self._size] = first
        self._end = self._size

    def _stack(self) -> Observation:
        assert self._roll is not None
        stack = self._roll[self._end - self._size : self._end]
        stack.setflags(write=False)
        return stack
