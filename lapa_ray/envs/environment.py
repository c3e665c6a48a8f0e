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
    """What one agent step gave. Arrays are the receiver's: no later step overwrites them.

    obs uint8 [84, 84] grey; reward the raw score; terminated and truncated as in Gymnasium; frames of the emulator.
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
    """The last `size` observations of one episode; at its start the first one fills all places."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._stack: Observation | None = None

    def reset(self, obs: Observation) -> Observation:
        """Begin an episode; returns the stack uint8 [size, 84, 84]."""
        self._stack = np.repeat(obs[None], self._size, axis=0)
        return self._stack.copy()

    def push(self, obs: Observation) -> Observation:
        """Add the newest observation; returns the stack uint8 [size, 84, 84], oldest first."""
        if self._stack is None:
            raise ValueError("push before reset")
        self._stack[:-1] = self._stack[1:]
        self._stack[-1] = obs
        return self._stack.copy()
