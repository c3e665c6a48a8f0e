"""Comparison: what training with uniform and with prioritised replay came to, over seeds, as `figures.json` holds it.

Trials come in, as their logs and what was measured of their gameplay; every measure goes out for each replay with its
interval over seeds, and how likely prioritised replay is to exceed uniform. Knows neither actors nor files of agents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from lapa_ray.core.errors import LapaError
from lapa_ray.evaluation.data_quality import DataFigure, DataQuality
from lapa_ray.evaluation.learning_curves import METRICS, Row, final_value
from lapa_ray.evaluation.run_statistics import (
    Interval,
    Scores,
    improvement_interval,
    interquartile_mean,
    interval,
    mean,
)

FIGURES, PICTURE = "figures.json", "comparison.png"
Replay = Literal["uniform", "prioritised"]
REPLAYS: tuple[Replay, ...] = get_args(Replay)
TRAINING_GROUP = "training"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Trial(_Model):
    """One training."""

    name: str
    """What it is called; its folder in the artefact."""
    replay: Replay
    """Replay that it drew from."""
    seed: int
    """Its seed."""
    identity: str = ""
    """Identity of its agent artefact; empty if it failed."""
    num_steps: int = 0
    """Agent steps."""
    num_updates: int = 0
    """Updates."""
    num_episodes: int = 0
    """Episodes that ended."""
    values: dict[str, float | None] = {}
    """Name of a `Measure` to its value; None where there was nothing to measure."""
    failure: str = ""
    """Why it did not come to its end; empty if it did. It is no part of any figure then."""


class Measure(_Model):
    """One quantity of every trial."""

    name: str
    """Key."""
    group: str
    """`training`, or the group of a data figure: episodes, pictures, actions or play."""
    label: str
    """What it is called in tables."""
    unit: str
    """As `figures.format_value` takes it; empty for a bare number."""
    meaning: str
    """How it is counted."""


class Summary(_Model):
    """One measure of one replay, over its seeds."""

    mean: Interval
    """Mean, with the 95 % interval of a stratified bootstrap."""
    iqm: Interval
    """Interquartile mean, the same."""


class Comparison(_Model):
    """Everything that was measured; `figures.json`."""

    game: str
    """Name of the game."""
    num_steps: int
    """Agent steps of each trial."""
    final_share: float
    """Share of the steps, at the end, that the training's measures are of."""
    measures: tuple[Measure, ...]
    """In the order in which they are shown."""
    trials: tuple[Trial, ...]
    """All of them, failed ones too."""
    summaries: dict[Replay, dict[str, Summary]]
    """Replay to name of a measure to its summary."""
    improvements: dict[str, Interval]
    """Name of a measure to how likely it is that a prioritised training has more of it than a uniform one."""
    beside: dict[str, dict[str, Interval]] = {}
    """Who else played, to name of a measure of data to its value and the 95 % interval over episodes."""

    def manifest_figures(self) -> dict[str, float | int | str | None]:
        """What of it a manifest tells: trials, and the training's measures."""
        flat: dict[str, float | int | str | None] = {
            "game": self.game,
            "num_trials": len(self.trials),
            "num_failed_trials": sum(bool(trial.failure) for trial in self.trials),
        }
        for measure in (measure for measure in self.measures if measure.group == TRAINING_GROUP):
            for replay, summaries in self.summaries.items():
                name, iqm = f"{replay}_{measure.name}", summaries[measure.name].iqm
                flat |= {f"{name}_mean": summaries[measure.name].mean.value, f"{name}_iqm": iqm.value}
                flat |= {f"{name}_iqm_low": iqm.low, f"{name}_iqm_high": iqm.high}
            flat[f"improvement_{measure.name}"] = self.improvements[measure.name].value
        return flat

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `folder`'s figures. Raises `LapaError` if they are damaged."""
        path = folder / FIGURES
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
            raise LapaError(f"{path}: damaged ({reason}); run compare-replay again.") from error


@dataclass(frozen=True)
class TrialLog:
    """A trial as far as it is known, and the rows of its metric log."""

    trial: Trial
    rows: Sequence[Row] = field(default=())


def compare(
    logs: Sequence[TrialLog], *, game: str, num_steps: int, final_share: float, data: DataQuality | None, seed: int
) -> Comparison:
    """The comparison of `logs`; of `data` the datasets with the name of a trial as their role are its gameplay."""
    measures = (*_training_measures(), *([] if data is None else map(_data_measure, data.figures)))
    after = (1 - final_share) * num_steps
    trials = tuple(_with_values(log, after, data) for log in logs)
    scores = {replay: _scores(trials, replay, measures) for replay in REPLAYS}
    return Comparison(
        game=game,
        num_steps=num_steps,
        final_share=final_share,
        measures=measures,
        trials=trials,
        summaries={
            replay: {name: _summary(values, seed) for name, values in of_replay.items()}
            for replay, of_replay in scores.items()
        },
        improvements={
            measure.name: improvement_interval(
                scores["prioritised"][measure.name], scores["uniform"][measure.name], seed
            )
            for measure in measures
        },
        beside={} if data is None else _beside(data, {trial.name for trial in trials}),
    )


def _training_measures() -> list[Measure]:
    return [
        Measure(name=metric.name, group=TRAINING_GROUP, label=metric.label, unit=metric.unit, meaning=metric.meaning)
        for metric in METRICS
    ]


def _data_measure(figure: DataFigure) -> Measure:
    return Measure(
        name=_data_name(figure.name), group=figure.group, label=figure.label, unit=figure.unit, meaning=figure.meaning
    )


def _data_name(name: str) -> str:
    return f"data_{name}"


def _with_values(log: TrialLog, after: float, data: DataQuality | None) -> Trial:
    if log.trial.failure:
        return log.trial
    values = {metric.name: final_value(log.rows, metric, after) for metric in METRICS}
    return log.trial.model_copy(update={"values": values | _data_values(data, log.trial.name)})


def _data_values(data: DataQuality | None, role: str) -> dict[str, float | None]:
    datasets = () if data is None else data.datasets
    found = next((dataset for dataset in datasets if dataset.role == role and not dataset.part), None)
    if found is None:
        return {}
    return {_data_name(name): estimate.value for name, estimate in found.estimates.items()}


def _scores(trials: Sequence[Trial], replay: Replay, measures: Sequence[Measure]) -> dict[str, Scores]:
    """Name of each measure to the values of the trials of `replay` that have one, [runs, 1]."""
    of_replay = [trial.values for trial in trials if trial.replay == replay]
    found = {m.name: [value for values in of_replay if (value := values.get(m.name)) is not None] for m in measures}
    return {name: np.array(values, dtype=np.float64).reshape(-1, 1) for name, values in found.items()}


def _summary(scores: Scores, seed: int) -> Summary:
    return Summary(mean=interval(scores, mean, seed), iqm=interval(scores, interquartile_mean, seed))


def _beside(data: DataQuality, roles: set[str]) -> Mapping[str, dict[str, Interval]]:
    """Datasets that are no trial's, by the policy that played them."""
    return {
        dataset.name: {
            _data_name(name): Interval(value=estimate.value, low=estimate.low, high=estimate.high)
            for name, estimate in dataset.estimates.items()
        }
        for dataset in data.datasets
        if dataset.role not in roles
    }
