"""Data quality: what `measure-data` found in each dataset, as `figures.json` holds it and the pages read it.

Knows not how anything was measured.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from lapa_ray.core.errors import LapaError
from lapa_ray.evaluation.array_files import save_arrays
from lapa_ray.evaluation.estimates import Estimate

FIGURES, PICTURES = "figures.json", "pictures.npz"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataFigure(_Model):
    """One quantity that is measured of every dataset."""

    name: str
    """Key; ends in its unit where it has one."""
    group: str
    """What it tells of: episodes, pictures, actions or play."""
    label: str
    """What it is called in tables."""
    unit: str
    """As `figures.format_value` takes it; empty for a bare number. Shares are stored in [0, 1]."""
    meaning: str
    """How it is counted, in a sentence."""


class DatasetQuality(_Model):
    """A dataset, or what one of several policies played of it, and its figures."""

    role: str
    """Role of the dataset among the parents: frames, or of several frames_0, frames_1 and so on."""
    name: str
    """What it is called: the policy, and the directory where several have the same."""
    policy: str
    """Who played, in words."""
    path: str
    """Where it lay."""
    identity: str
    """Identity of the frames artefact."""
    part: bool
    """Whether it is the part of one policy in a dataset that mixes several."""
    game: str
    """Name of the game."""
    action_meanings: tuple[str, ...]
    """Names of the actions."""
    sticky_probability: float
    """Chance, each emulator frame, that the action before runs again."""
    num_episodes: int
    """Episodes."""
    num_steps: int
    """Agent steps in them."""
    estimates: dict[str, Estimate]
    """Name of a `DataFigure` to what was measured."""
    missing: dict[str, str] = {}
    """Name of a `DataFigure` to why it was not, in a few words."""
    notes: dict[str, str] = {}
    """Name of a `DataFigure` to what has to be known to read it, in a few words."""


class DataQuality(_Model):
    """Everything that was measured; `figures.json`."""

    composite: str
    """The pictures that were counted: max4, max2 or last."""
    figures: tuple[DataFigure, ...]
    """What was measured, in the order in which it is shown."""
    datasets: tuple[DatasetQuality, ...]
    """Side by side; the parts of a dataset follow it."""

    def manifest_figures(self) -> dict[str, float | int | str | None]:
        """Names, sizes and values of all datasets, flat, for a manifest; those of parts are in `figures.json` alone."""
        flat: dict[str, float | int | str | None] = {"num_datasets": 0}
        for dataset in self.datasets:
            if dataset.part:
                continue
            flat["num_datasets"] = int(flat["num_datasets"] or 0) + 1
            flat[f"{dataset.role}_policy"] = dataset.policy
            flat[f"{dataset.role}_num_episodes"] = dataset.num_episodes
            flat[f"{dataset.role}_num_steps"] = dataset.num_steps
            for figure in self.figures:
                estimate = dataset.estimates.get(figure.name)
                flat[f"{dataset.role}_{figure.name}"] = None if estimate is None else estimate.value
        return flat


@dataclass(frozen=True)
class DataExhibit:
    """Arrays of one dataset, for charts and maps; empty along their first axis where they were not measured."""

    returns: NDArray[np.float64]
    """[E], raw score of each episode."""
    levels: NDArray[np.int64]
    """[E], highest level of each episode, from 0."""
    dots_steps: NDArray[np.int64]
    """[G], agent steps since the beginning of the episode."""
    dots: NDArray[np.float64]
    """[G, 3]: dots eaten until then, mean of the episodes and ends of its interval; an ended episode keeps its dots."""
    player_cells: NDArray[np.int64]
    """[4, 252]: steps in play by maze and cell of the player."""
    actions: NDArray[np.int64]
    """[A, A]: steps by action asked for and executed."""


def save_exhibits(path: Path, exhibits: Sequence[DataExhibit]) -> None:
    """Write `path`, compressed, by rename."""
    arrays = {f"{i}_{f.name}": getattr(exhibit, f.name) for i, exhibit in enumerate(exhibits) for f in fields(exhibit)}
    save_arrays(path, arrays)


@dataclass(frozen=True)
class Measured:
    """What a data_quality artefact holds: the figures, and an exhibit for each of their datasets."""

    quality: DataQuality
    exhibits: tuple[DataExhibit, ...]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read both files of `folder`. Raises `LapaError` naming the one that is damaged."""
        path = folder / FIGURES
        try:
            quality = DataQuality.model_validate_json(path.read_bytes())
            path = folder / PICTURES
            return cls(quality, _load_exhibits(path, len(quality.datasets)))
        except (OSError, ValidationError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise LapaError(f"{path}: damaged ({reason}); run measure-data again.") from error


def _load_exhibits(path: Path, count: int) -> tuple[DataExhibit, ...]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return tuple(
            DataExhibit(**{field.name: arrays[f"{index}_{field.name}"] for field in fields(DataExhibit)})
            for index in range(count)
        )
