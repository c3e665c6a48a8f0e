"""The progress of several trainings in other processes, read off the ends of their metric logs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from lapa_ray.core.artefact import MANIFEST, METRICS
from lapa_ray.core.progress import Progress
from lapa_ray.stages.dqn_training import TrainDqnConfig

TAIL_BYTES = 8192
"""Longer than a row is."""


class TrialProgress:
    """Shows the agent steps of all trainings together. A context manager."""

    def __init__(self, label: str, configs: Mapping[str, TrainDqnConfig]) -> None:
        self._configs = list(configs.values())
        self._steps = dict.fromkeys((config.out for config in self._configs), 0)
        self._changed: dict[Path, int] = {}
        self._look()
        total = sum(config.num_steps for config in self._configs)
        self._progress = Progress(label, total, "steps", initial=sum(self._steps.values()))

    def look(self) -> None:
        """Read what has changed, and show it."""
        num_whole = self._look()
        self._progress.advance_to(sum(self._steps.values()), f"{num_whole} of {len(self._configs)} agents trained")

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)

    def _look(self) -> int:
        """Take in how far each training is; returns how many are whole."""
        whole = 0
        for config in self._configs:
            if (config.out / MANIFEST).exists():
                whole += 1
                self._steps[config.out] = config.num_steps
            elif (step := self._last_step(config.out / METRICS)) is not None:
                self._steps[config.out] = min(step, config.num_steps)
        return whole

    def _last_step(self, path: Path) -> int | None:
        """The step of the last row of a log, if the log has changed since the last look."""
        try:
            changed = path.stat().st_mtime_ns
            if self._changed.get(path) == changed:
                return None
            self._changed[path] = changed
            return last_step(path)
        except FileNotFoundError:
            return None


def last_step(path: Path) -> int | None:
    """The step of the last whole row of a metric log; None if there is none."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - TAIL_BYTES))
        lines = file.read().splitlines()
    for line in reversed(lines):
        try:
            return int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError):
            continue
    return None
