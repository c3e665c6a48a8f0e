"""What a training run tells of itself: rollouts and reports in, one row of means and rates a period out."""

from __future__ import annotations

import copy
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from lapa_ray.actors.rollout_worker import RolloutStats

NUM_RECENT_EPISODES = 100


@dataclass
class Counters:
    """Where a run is."""

    num_steps: int = 0
    """Agent steps of all workers."""
    num_updates: int = 0
    """Updates of the learner."""
    num_episodes: int = 0
    """Episodes that ended."""
    num_redone_updates: int = 0
    """Updates that were lost with a learner and made again; `num_updates` counts them once."""

    def as_dict(self) -> dict[str, int]:
        """For the checkpoint."""
        return dict(vars(self))

    def check_valid(self) -> None:
        """Raise `AssertionError` if a count is below 0, or an episode had no step."""
        assert min(vars(self).values()) >= 0, "counts below 0"
        assert self.num_episodes <= self.num_steps, "more episodes than steps"


@dataclass
class RunLog:
    """What happened since the last row, and the returns of the last 100 episodes."""

    recent_returns: deque[float] = field(default_factory=lambda: deque(maxlen=NUM_RECENT_EPISODES))
    _returns: list[float] = field(default_factory=list)
    _lengths: list[int] = field(default_factory=list)
    _metrics: dict[str, float] = field(default_factory=dict)
    _num_steps: int = 0
    _num_updates: int = 0
    _weights_age: int = 0
    _start: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Time since the last row, s."""
        return time.monotonic() - self._start

    @property
    def is_empty(self) -> bool:
        """Whether nothing happened since the last row."""
        return not self._num_steps and not self._num_updates

    def note_rollout(self, stats: RolloutStats, weights_age: int = 0) -> None:
        """Count a rollout; `weights_age`: updates that the learner was ahead of its weights when it was in."""
        self._weights_age = max(self._weights_age, weights_age)
        self._num_steps += stats.num_steps
        self._returns += [episode_return for episode_return, _ in stats.episodes]
        self._lengths += [length for _, length in stats.episodes]
        self.recent_returns.extend(episode_return for episode_return, _ in stats.episodes)

    def note_updates(self, count: int, metrics: dict[str, float]) -> None:
        """Count `count` updates, over which `metrics` are means."""
        total = self._num_updates + count
        before = self._metrics or metrics
        self._metrics = {
            name: (before[name] * self._num_updates + value * count) / total for name, value in metrics.items()
        }
        self._num_updates = total

    def take_row(self) -> dict[str, float]:
        """Means and rates since the last row, and the age of the oldest weights; begins the next one.

        No `return` where no episode ended.
        """
        seconds = max(self.seconds, 1e-9)
        row = dict(self._metrics)
        row |= {"steps_per_s": self._num_steps / seconds, "updates_per_s": self._num_updates / seconds}
        row["weights_age_updates"] = self._weights_age
        if self._returns:
            row["return"] = sum(self._returns) / len(self._returns)
            row["episode_length"] = sum(self._lengths) / len(self._lengths)
        self._returns, self._lengths, self._metrics = [], [], {}
        self._num_steps = self._num_updates = self._weights_age = 0
        self._start = time.monotonic()
        return row

    def get_state(self) -> dict[str, Any]:
        """All of it, as numbers, lists and dicts; of the clock the time since the last row."""
        state = {name: value for name, value in vars(self).items() if name != "_start"}
        return copy.deepcopy(state) | {"recent_returns": list(self.recent_returns), "seconds": self.seconds}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on with the row and the returns of a state."""
        vars(self).update(copy.deepcopy({name: value for name, value in state.items() if name != "seconds"}))
        self.recent_returns = deque(state["recent_returns"], NUM_RECENT_EPISODES)
        self._start = time.monotonic() - state["seconds"]

    def check_valid(self) -> None:
        """Raise `AssertionError` if what is told of does not agree."""
        assert len(self._returns) == len(self._lengths), "a return without a length"
        assert bool(self._metrics) <= bool(self._num_updates), "metrics without updates"
        assert min(self._num_steps, self._num_updates, self._weights_age) >= 0, "counts below 0"
        assert self.recent_returns.maxlen == NUM_RECENT_EPISODES
