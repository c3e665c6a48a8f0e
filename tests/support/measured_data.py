"""Measured data made by hand: two datasets of Ms. Pac-Man, one of them mixed, and one of another game."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

from lapa_ray.core.artefact import Artefact
from lapa_ray.core.frames import GameInfo
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.evaluation.data_quality import Measured
from lapa_ray.evaluation.data_quality_datasets import Tallied, measured
from lapa_ray.evaluation.data_quality_tally import EpisodeTally
from tests.support.counter_env import CounterEnv
from tests.support.report_sources import drawn_manifest


def tallied(
    role: str, path: str, tallies: list[EpisodeTally], *, game: str = "MsPacman", artefact: Artefact | None = None
) -> Tallied:
    """Episodes as those of a dataset at `path`, which needs not exist."""
    made = Artefact(Path(path), drawn_manifest("frames", {}, {})) if artefact is None else artefact
    info = GameInfo(**{**vars(CounterEnv().info), "game": game, "action_meanings": ("NOOP", "UP")})
    return Tallied(role, cast("FrameDataset", SimpleNamespace(artefact=made, info=info)), tuple(tallies))


def measured_data(*datasets: Tallied) -> Measured:
    return measured(datasets, "max4", seed=0)
