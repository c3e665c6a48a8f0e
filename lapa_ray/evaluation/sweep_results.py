"""A sweep's results: one row a training, the best setting among those that meet the constraints, in figures.

A setting's figure is the mean over its whole trainings; one that has none shows the last validations of the others, and
is not chosen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import ge, gt, le, lt
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from lapa_ray.core.errors import LapaError
from lapa_ray.core.files import write_json

RESULTS = "figures.json"
TRIALS, SHEET, SWAP_SHEET = "trials", "reconstructions.png", "swaps.png"
"""Folder of a sweep in which its trainings lie by name, and the files of each with its pictures of held-out pairs, and
of code swaps where there are any.
"""
Mode = Literal["max", "min"]
State = Literal["whole", "ended early", "failed"]
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {">=": ge, "<=": le, ">": gt, "<": lt}


@dataclass(frozen=True)
class Constraint:
    """What a figure has to be: `changed_psnr_db >= 17`."""

    figure: str
    comparison: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Raises `LapaError` if `text` is none."""
        found = re.fullmatch(r"\s*(\w+)\s*(>=|<=|>|<)\s*(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*", text)
        if found is None:
            raise LapaError(f"--constraints {text!r}: should read like 'changed_psnr_db >= 17'.")
        return cls(found[1], found[2], float(found[3]))

    def holds(self, figures: Mapping[str, float]) -> bool:
        """Whether `figures` has it, and meets it."""
        return self.figure in figures and _COMPARISONS[self.comparison](figures[self.figure], self.bound)


@dataclass(frozen=True)
class SweepTrial:
    """One training: which setting, which seed, how it ended, and its validation figures (the last, if any)."""

    name: str
    setting: Mapping[str, Any]
    seed: int
    state: State
    figures: Mapping[str, float]
    failure: str = ""


@dataclass(frozen=True)
class Setting:
    """What the trainings of one setting came to: means over those that are whole, and their spread (None of one).

    `deviations` are standard deviations. Where none is whole, over the last validations of the others.
    """

    values: Mapping[str, Any]
    means: Mapping[str, float]
    deviations: Mapping[str, float | None]
    num_whole: int
    num_trials: int
    meets_constraints: bool

    @property
    def words(self) -> str:
        """Its values in words."""
        return ", ".join(f"{path} {value}" for path, value in self.values.items()) or "the one setting"


def settings_of(trials: Sequence[SweepTrial], constraints: Sequence[Constraint]) -> list[Setting]:
    """One for each setting, in the order of the trials."""
    found: dict[str, list[SweepTrial]] = {}
    for trial in trials:
        found.setdefault(repr(dict(trial.setting)), []).append(trial)
    return [_setting(group, constraints) for group in found.values()]


def _setting(trials: Sequence[SweepTrial], constraints: Sequence[Constraint]) -> Setting:
    whole = [trial.figures for trial in trials if trial.state == "whole"]
    told = whole or [trial.figures for trial in trials if trial.figures]
    names = sorted(set.intersection(*map(set, told))) if told else []
    means = {name: float(np.mean([figures[name] for figures in told])) for name in names}
    deviations = {
        name: float(np.std([figures[name] for figures in told], ddof=1)) if len(told) > 1 else None for name in names
    }
    num_whole = sum(trial.state == "whole" for trial in trials)
    meets = all(constraint.holds(means) for constraint in constraints)
    return Setting(trials[0].setting, means, deviations, num_whole, len(trials), meets)


def best_of(settings: Sequence[Setting], objective: str, mode: Mode) -> Setting | None:
    """The best of those that have a whole training and meet the constraints; None if there is none."""
    return next(iter(ranked(settings, objective, mode)), None)


def ranked(settings: Sequence[Setting], objective: str, mode: Mode) -> list[Setting]:
    """Those that have a whole training, meet the constraints and tell the objective, the best first."""
    fit = [setting for setting in settings if setting.num_whole and setting.meets_constraints]
    told = [setting for setting in fit if objective in setting.means]
    return sorted(told, key=lambda setting: setting.means[objective], reverse=mode == "max")


@dataclass(frozen=True)
class SweepResults:
    """What a sweep came to: its trainings, what each setting came to, and the best by the objective."""

    trials: tuple[SweepTrial, ...]
    settings: tuple[Setting, ...]
    best: Setting | None
    objective: str
    mode: Mode
    constraints: tuple[str, ...]

    @classmethod
    def of(cls, trials: Sequence[SweepTrial], objective: str, mode: Mode, constraints: Sequence[str] = ()) -> Self:
        """Judge the trainings. Raises `LapaError` for a constraint that is none."""
        settings = settings_of(trials, [Constraint.parse(text) for text in constraints])
        best = best_of(settings, objective, mode)
        return cls(tuple(trials), tuple(settings), best, objective, mode, tuple(constraints))

    def save(self, folder: Path) -> None:
        """Write them to `folder` as JSON, for people, and for `load`."""
        write_json(
            folder / RESULTS,
            {
                "objective": self.objective,
                "mode": self.mode,
                "constraints": list(self.constraints),
                "best": None if self.best is None else asdict(self.best),
                "settings": [asdict(setting) for setting in self.settings],
                "trials": [asdict(trial) for trial in self.trials],
            },
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Those of a sweep artefact. Raises `LapaError` if the file is damaged, or from before trainings were in it."""
        path = folder / RESULTS
        try:
            told = json.loads(path.read_bytes())
            trials = [SweepTrial(**trial) for trial in told["trials"]]
            if not trials:
                raise ValueError("no trainings")
            return cls.of(trials, told["objective"], told["mode"], told["constraints"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LapaError(f"{path}: damaged, or of an older version ({error!r}); sweep again.") from error


def sheets_in(folder: Path) -> dict[str, dict[str, Path]]:
    """The pictures that the trainings of the sweep in `folder` left: by file name, then by the training's name."""
    return {
        name: {path.parent.name: path for path in sorted((folder / TRIALS).glob(f"*/{name}"))}
        for name in (SHEET, SWAP_SHEET)
    }


def significant(value: float, digits: int) -> str:
    """`value` with so many significant digits, and with all before the point where it has more."""
    return f"{value:,.0f}" if abs(value) >= 10**digits - 0.5 else f"{value:.{digits}g}"


def none_is_best(num_settings: int, objective: str, constraints: Sequence[str]) -> str:
    """Why there is no best setting."""
    lack = f"and meets {' and '.join(constraints)}" if constraints else f"that tells {objective}"
    return f"None of {num_settings} settings has a whole training {lack}."
