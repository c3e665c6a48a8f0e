"""Probes of the training loop on the counter environment: what comes out must be what went in, frame by frame."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lapa_ray.actors.learner import BatchSource, LearnerReport
from lapa_ray.actors.replay_server import ReplayServer
from lapa_ray.envs.atari_env import AtariEnv, AtariEnvConfig
from lapa_ray.envs.environment import Step
from lapa_ray.replay.chunk import Batch
from tests.support.counter_env import CounterEnv, read

Spelt = tuple[int, int]
"""Tag of the episode and number of the step that a transition led to."""


def check_batch(batch: Batch, length: int) -> list[Spelt]:
    """Raise `AssertionError` unless every transition is one that the counter environment can give."""
    columns = (batch.windows, batch.actions, batch.rewards, batch.discounts == 0)
    return [check_transition(*row, length) for row in zip(*columns, strict=True)]


def check_transition(window: np.ndarray, action: int, reward: float, terminated: bool, length: int) -> Spelt:
    tags, steps, actions = zip(*(read(frame) for frame in window), strict=True)
    last = steps[-1]
    assert len(set(tags)) == 1, f"a window of several episodes: {tags}"
    assert steps == tuple(max(0, last - back) for back in reversed(range(len(window)))), f"out of order: {steps}"
    assert (actions[-1], last, last == length) == (action, reward, terminated), (actions, steps, action, reward)
    return tags[0], last


class ProbeLearner:
    """Takes batches like a learner and checks them instead of learning."""

    def __init__(self, source: BatchSource, length: int, weights: dict[str, np.ndarray]) -> None:
        self._source, self._length, self._weights = source, length, weights
        self._seen: dict[int, Spelt] = {}
        self._num_updates = 0

    def train(self, num_updates: int) -> LearnerReport:
        for batch in self._source.batches(self._num_updates, num_updates):
            self._check_same(batch, check_batch(batch, self._length))
            self._source.give_td_errors(batch.ids, batch.rewards)
            self._num_updates += 1
        return LearnerReport(self._num_updates, {"seen": float(len(self._seen))})

    def weights(self) -> dict[str, np.ndarray]:
        return self._weights

    def _check_same(self, batch: Batch, spelt: list[Spelt]) -> None:
        for transition, now in zip(batch.ids.tolist(), spelt, strict=True):
            assert self._seen.setdefault(transition, now) == now, f"id {transition} is {now}, was another before"


class ProbeServer(ReplayServer):
    """A replay server that shows all that it holds."""

    def held(self, length: int) -> list[Spelt]:
        """Episode and step of every held transition, oldest first, each one checked."""
        self.check_valid()
        store = self._buffer.store
        return list(_held(store, length))


def _held(store, length: int) -> Iterator[Spelt]:
    windows, actions, rewards, discounts = store.gather(np.arange(store.tail, store.head))
    for row in zip(windows, actions, rewards, discounts == 0, strict=True):
        yield check_transition(*row, length)


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


class MortalEnv(CounterEnv):
    """Dies with its process in the middle of a step."""

    def __init__(self, length: int, at: int, grave: Path | None) -> None:
        super().__init__(length)
        self._mortality = Mortality(at, grave)

    def step(self, action: int) -> Step:
        self._mortality.tick()
        return super().step(action)


class MortalAtariEnv(AtariEnv):
    """The same on the real game."""

    def __init__(self, config: AtariEnvConfig, at: int, grave: Path) -> None:
        super().__init__(config)
        self._mortality = Mortality(at, grave)

    def step(self, action: int) -> Step:
        self._mortality.tick()
        return super().step(action)
