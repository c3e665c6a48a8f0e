"""Reels: what is kept of the emulator frames of one agent step. An emulator after each `act` in, `StepFrames` out."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from ale_py import ALEInterface
from numpy.typing import NDArray

from lapa_ray.core.frames import RAM_BYTES, StepFrames
from lapa_ray.core.pictures import Screen


class Reel(Protocol):
    """Takes the frames of one step, one after another."""

    def take(self, executed: int, reward: float) -> None:
        """Keep the frame that the emulator shows now, to which action `executed` led with `reward`."""

    def screens(self) -> Screen:
        """Screens taken, uint8 [n, height, width], of which the last two in either order are the newest."""

    def develop(self) -> StepFrames:
        """What was kept, to be called once, while the emulator stands at the last frame; arrays may be read-only."""


class WholeReel:
    """Keeps every frame."""

    def __init__(self, ale: ALEInterface, shape: tuple[int, int], num_frames: int) -> None:
        """`shape` of a screen (height, width); `num_frames` at most."""
        self._ale = ale
        self._screens = np.empty((num_frames, *shape), dtype=np.uint8)
        self._ram = np.empty((num_frames, RAM_BYTES), dtype=np.uint8)
        self._executed: list[int] = []
        self._rewards: list[float] = []
        self._lives: list[int] = []

    def take(self, executed: int, reward: float) -> None:
        """Keep the frame."""
        index = len(self._rewards)
        self._ale.getScreen(self._screens[index])
        self._ale.getRAM(self._ram[index])
        self._executed.append(executed)
        self._rewards.append(reward)
        self._lives.append(self._ale.lives())

    def screens(self) -> Screen:
        """All screens."""
        return self._screens[: len(self._rewards)]

    def develop(self) -> StepFrames:
        """Every frame, oldest first."""
        self._screens.setflags(write=False)
        return StepFrames(
            screens=self.screens(),
            ram=self._ram[: len(self._rewards)],
            executed_actions=np.array(self._executed, dtype=np.int8),
            rewards=np.array(self._rewards, dtype=np.float32),
            lives=np.array(self._lives, dtype=np.int8),
        )


class LastFrameReel:
    """Keeps the last frame alone, with the reward of the whole step; of the one before it only the screen."""

    def __init__(self, ale: ALEInterface, shape: tuple[int, int]) -> None:
        """`shape` of a screen (height, width)."""
        self._ale = ale
        self._screens = np.empty((2, *shape), dtype=np.uint8)
        self._count, self._executed, self._reward = 0, 0, 0.0

    def take(self, executed: int, reward: float) -> None:
        """Keep the frame in place of the last but one: any frame may turn out to be the episode's last."""
        self._ale.getScreen(self._screens[self._count % 2])
        self._count += 1
        self._executed = executed
        self._reward += reward

    def screens(self) -> Screen:
        """The last two screens, or the one that there is."""
        return self._screens[: self._count]

    def develop(self) -> StepFrames:
        """The last frame."""
        self._screens.setflags(write=False)
        last = (self._count - 1) % 2
        return StepFrames(
            screens=self._screens[last : last + 1],
            ram=self._ale.getRAM()[None],
            executed_actions=_single(self._executed, np.int8),
            rewards=_single(self._reward, np.float32),
            lives=_single(self._ale.lives(), np.int8),
        )


@lru_cache(maxsize=1024)
def _single(value: float, dtype: type[np.generic]) -> NDArray[Any]:
    """A read-only array [1]; few are made, since the same values come again and again."""
    array = np.array([value], dtype=dtype)
    array.setflags(write=False)
    return array
