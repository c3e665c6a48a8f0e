"""What a training run tells of itself: rollouts and reports in, one row of means and rates a period out."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

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

    def as_dict(self) -> dict[str, int]:
        """For the checkpoint."""
        return dict(vars(self))


@dataclass
class RunLog:
    """What happened since the last row, and the returns of the last 100 episodes."""

    recent_returns: deque[float] = field(default_factory=lambda: deque(maxlen=NUM_RECENT_EPISODES))
    _returns: list[float] = field(default_factory=list)
    _lengths: list[int] = field(default_factory=list)
    _metrics: dict[str, float] = field(default_factory=dict)
    _num_steps: int = 0
    _num_updates: int = 0
    _start: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Time since the last row, s."""
        return time.monotonic() - self._start

    @property
    def is_empty(self) -> bool:
        """Whether nothing happened since the last row."""
        return not self._num_steps and not self._num_updates

    def note_rollout(self, stats: RolloutStats) -> None:
        """Count a rollout."""
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
        """Means and rates since the last row; begins the next one. No `return` where no episode ended."""
        seconds = max(self.seconds, 1e-9)
        row = dict(self._metrics)
        row |= {"steps_per_s": self._num_steps / seconds, "updates_per_s": self._num_updates / seconds}
        if self._returns:
            row["return"] = sum(self._returns) / len(self._returns)
            row["episode_length"] = sum(self._lengths) / len(self._lengths)
        self._returns, self._lengths, self._metrics = [], [], {}
        self._num_steps = self._num_updates = 0
        self._start = time.monotonic()
        return row
