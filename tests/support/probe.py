"""Probes of the training loop on the counter environment: what comes out must be what went in, frame by frame."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lapa_ray.actors.replay_server import ReplayServer
from lapa_ray.envs.atari_env import AtariEnv, AtariEnvConfig
from lapa_ray.envs.environment import Step
from lapa_ray.replay.buffer import ReplayConfig
from lapa_ray.replay.chunk import Batch, Chunk
from tests.support.counter_env import CounterEnv, read

if TYPE_CHECKING:  # a probe of the server starts without torch, which takes longer than many a test
    from lapa_ray.actors.learner import BatchSource, LearnerReport

Spelt = tuple[int, int]
"""Tag of the episode and number of the step that a transition's action made."""
GAMMA = 0.5
"""Discounted sums of the counter environment's rewards are exact with it."""


def check_batch(batch: Batch, length: int) -> list[Spelt]:
    """Raise `AssertionError` unless every transition is one that the counter environment can give."""
    columns = (np.asarray(batch.windows), batch.actions, batch.rewards, batch.discounts)
    return [check_transition(*row, length, batch.n_step) for row in zip(*columns, strict=True)]


def check_transition(
    window: np.ndarray, action: int, reward: float, discount: float, length: int, n_step: int
) -> Spelt:
    tags, steps, actions = zip(*(read(frame) for frame in window), strict=True)
    stack = len(window) - n_step
    first, last = steps[stack], min(steps[stack - 1] + n_step, length)
    assert len(set(tags)) == 1, f"a window of several episodes: {tags}"
    expected = [min(max(0, first - stack + index), last) for index in range(len(window))]
    assert list(steps) == expected, f"out of order: {steps}"
    earned = sum(GAMMA**index * step for index, step in enumerate(range(first, last + 1)))
    expected_discount = 0.0 if last == length else GAMMA**n_step
    assert (actions[stack], earned, expected_discount) == (action, reward, discount), (actions, steps, action, reward)
    return tags[0], first


class ProbeLearner:
    """Takes batches like a learner and checks them instead of learning; each update takes `seconds` more."""

    def __init__(
        self,
        source: BatchSource,
        length: int,
        weights: dict[str, np.ndarray],
        mortality: Mortality | Deaths | None = None,
        seconds: float = 0.0,
    ) -> None:
        self._source, self._length, self._weights = source, length, weights
        self._mortality, self._seconds = mortality, seconds
        self._seen: dict[int, Spelt] = {}
        self._num_updates = 0

    def train(self, num_updates: int) -> LearnerReport:
        from lapa_ray.actors.learner import LearnerReport

        for batch in self._source.batches(self._num_updates, num_updates):
            self._check_same(batch, check_batch(batch, self._length))
            time.sleep(self._seconds)
            if self._mortality is not None:
                self._mortality.tick()
            self._source.give_td_errors(batch.ids, batch.rewards)
            self._num_updates += 1
        return LearnerReport(self._num_updates, {"seen": float(len(self._seen))})

    def weights(self) -> dict[str, np.ndarray]:
        return self._weights

    def connect(self, source: BatchSource) -> None:
        self._source = source
        self._seen.clear()  # a server that was restored gives out ids again

    def get_state(self) -> dict[str, Any]:
        return {"network": {}, "target": {}, "num_updates": self._num_updates}

    def set_state(self, state: dict[str, Any]) -> None:
        self._num_updates = state["num_updates"]

    def load(self, path: Path) -> dict[str, Any]:
        from lapa_ray.models.checkpoint import load_checkpoint

        parts = load_checkpoint(path)
        self.set_state(parts.pop("learner"))
        return parts

    def _check_same(self, batch: Batch, spelt: list[Spelt]) -> None:
        for transition, now in zip(batch.ids.tolist(), spelt, strict=True):
            assert self._seen.setdefault(transition, now) == now, f"id {transition} is {now}, was another before"


class ProbeServer(ReplayServer):
    """A replay server that shows all that it holds; a mortal one dies only while it is full."""

    def __init__(self, config: ReplayConfig, mortality: Mortality | Deaths | None = None, **settings) -> None:
        super().__init__(config, **settings)
        self._mortality = mortality

    def insert(self, chunks: Sequence[Chunk]) -> int:
        self._tick()
        return super().insert(chunks)

    def sample(self, num_updates_done: int) -> Batch:
        self._tick()
        return super().sample(num_updates_done)

    def _tick(self) -> None:
        if self._mortality is not None and self._buffer.store.head >= self._config.capacity:
            self._mortality.tick()

    def held(self, length: int) -> list[Spelt]:
        """Episode and step of every held transition, oldest first, each one checked."""
        self.check_valid()
        store = self._buffer.store
        return list(_held(store, length))


def _held(store, length: int) -> Iterator[Spelt]:
    for row in zip(*store.gather(np.arange(store.tail, store.head)), strict=True):
        yield check_transition(*row, length, store.n_step)


class Mortality:
    """Kills its own process at tick `at`, once: `grave` is a file that says that it was done. None: every time."""

    def __init__(self, at: int, grave: Path | None) -> None:
        self._at, self._grave, self._ticks = at, grave, 0

    def tick(self) -> None:
        self._ticks += 1
        if self._ticks == self._at and self._may_die():
            os.kill(os.getpid(), signal.SIGKILL)

    def _may_die(self) -> bool:
        if self._grave is None:
            return True
        try:
            self._grave.open("x").close()
        except FileExistsError:
            return False
        return True


class Deaths:
    """Kills one process after another: the i-th to die does so at its tick `at[i]`, or soon after it.

    `cemetery` is a folder that the processes share, with a file for each death.
    """

    def __init__(self, at: Sequence[int], cemetery: Path) -> None:
        self._at, self._cemetery, self._ticks = tuple(at), cemetery, 0
        cemetery.mkdir(exist_ok=True)

    def tick(self) -> None:
        self._ticks += 1
        count = self.count
        if count < len(self._at) and self._ticks >= self._at[count]:
            try:
                (self._cemetery / str(count)).open("x").close()
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)

    @property
    def count(self) -> int:
        """Deaths so far."""
        return len(list(self._cemetery.iterdir()))


class DyingEnv(CounterEnv):
    """Dies with its process in the middle of a step, as often as `deaths` has it; each step takes `seconds` more."""

    def __init__(self, length: int, deaths: Deaths | None = None, seconds: float = 0.0) -> None:
        super().__init__(length)
        self._deaths, self._seconds = deaths, seconds

    def step(self, action: int) -> Step:
        time.sleep(self._seconds)
        if self._deaths is not None:
            self._deaths.tick()
        return super().step(action)


class FailingEnv(CounterEnv):
    """Raises in its step `at` and later ones, in any process, until there are `num_failures` files in `folder`."""

    def __init__(self, length: int, at: int, num_failures: int, folder: Path) -> None:
        super().__init__(length)
        self._at, self._num_failures, self._folder = at, num_failures, folder
        folder.mkdir(exist_ok=True)

    def step(self, action: int) -> Step:
        self._at -= 1
        if self._at <= 0 and self._may_fail():
            raise ZeroDivisionError("a broken\njoystick")
        return super().step(action)

    def _may_fail(self) -> bool:
        count = len(list(self._folder.iterdir()))
        try:
            return count < self._num_failures and not (self._folder / str(count)).open("x").close()
        except FileExistsError:
            return False


class MortalEnv(CounterEnv):
    """Dies with its process in the middle of a step."""

    def __init__(self, length: int, at: int, grave: Path | None) -> None:
        super().__init__(length)
        self._mortality = Mortality(at, grave)

    def step(self, action: int) -> Step:
        self._mortality.tick()
        return super().step(action)


class PoisonedAtariEnv(AtariEnv):
    """The real game, whose rewards are no numbers from step `at` on."""

    def __init__(self, config: AtariEnvConfig, at: int, *, keep_frames: bool = True) -> None:
        super().__init__(config, keep_frames=keep_frames)
        self._left = at

    def step(self, action: int) -> Step:
        self._left -= 1
        step = super().step(action)
        return step if self._left > 0 else replace(step, reward=float("nan"))


class MortalAtariEnv(AtariEnv):
    """The same on the real game."""

    def __init__(self, config: AtariEnvConfig, at: int, grave: Path) -> None:
        super().__init__(config)
        self._mortality = Mortality(at, grave)

    def step(self, action: int) -> Step:
        self._mortality.tick()
        return super().step(action)
