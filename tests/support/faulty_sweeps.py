"""What the trials of a sweep do, in place of `Sweeping` alone, in tests of faults and of how many run at once."""

from __future__ import annotations

import time
from pathlib import Path

from lapa_ray.core.stop import StopRequest
from lapa_ray.stages.fit_task import Figures
from lapa_ray.stages.sweep_trials import Sweeping
from lapa_ray.stages.vqvae_config import TrainVqvaeConfig

MEETING_S = 60
MET, ATTEMPTS = "met", "attempts"
"""Folders inside the sweep's, with a file a training."""


class Failing(Sweeping):
    """The first setting's training fails as often as asked, each time when it has told Tune of a validation."""

    def __init__(self, objective: str, num_failures: int) -> None:
        super().__init__(objective)
        self._num_failures, self._attempt = num_failures, 0

    def __call__(self, config: TrainVqvaeConfig, stop: StopRequest) -> None:
        note = note_of(config, ATTEMPTS)
        with note.open("a") as file:
            file.write("begun\n")
        self._attempt = num_attempts(note)
        super().__call__(config, stop)

    def _report(self, config: TrainVqvaeConfig, figures: Figures) -> None:
        super()._report(config, figures)
        if config.out.name.startswith("00_") and self._attempt <= self._num_failures:
            raise RuntimeError(f"attempt {self._attempt} fails")


class Meeting(Sweeping):
    """A training that begins when `num_trainings` are there."""

    def __init__(self, objective: str, num_trainings: int) -> None:
        super().__init__(objective)
        self._num_trainings = num_trainings

    def __call__(self, config: TrainVqvaeConfig, stop: StopRequest) -> None:
        note = note_of(config, MET)
        note.touch()
        end = time.monotonic() + MEETING_S
        while len(list(note.parent.iterdir())) < self._num_trainings:
            if time.monotonic() > end:
                raise TimeoutError("the others did not come")
            time.sleep(0.05)
        super().__call__(config, stop)


def note_of(config: TrainVqvaeConfig, folder: str) -> Path:
    """The training's file in `folder`, which is made."""
    path = config.out.parents[1] / folder / config.out.name
    path.parent.mkdir(exist_ok=True)
    return path


def num_attempts(note: Path) -> int:
    return len(note.read_text().splitlines())
