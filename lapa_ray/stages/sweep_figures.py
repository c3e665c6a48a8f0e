"""The figures that a sweep goes by: refused before it where no training will tell them, and read after it.

A config in, a `LapaError` for a figure that will not be told; rows of a metric log or a manifest in, figures out. Knows
neither how trainings run nor which of them is best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from lapa_ray.core.errors import LapaError
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.evaluation.sprite_recall import RECALL
from lapa_ray.evaluation.sweep_results import Constraint
from lapa_ray.evaluation.walks import walks_in
from lapa_ray.stages.held_out_actions import PROBE_FIGURES, SWAP_FIGURES
from lapa_ray.stages.held_out_sprites import recalls_of
from lapa_ray.stages.sweep_config import SweepConfig
from lapa_ray.stages.sweep_plan import Planned
from lapa_ray.stages.vqvae_task import VALIDATION_FIGURES

ACTION_FIGURES = (*SWAP_FIGURES, *PROBE_FIGURES)
SPEED = "samples_per_s"
"""What an objective or a constraint may be of beside validation figures: the median of a training's rows of it."""


def check_figures(config: SweepConfig) -> None:
    """Before days of training: a figure by a wrong name would be missed at their end."""
    for option, figure in _asked(config):
        if figure == SPEED:
            _check_speed(config, option)
        elif figure in ACTION_FIGURES:
            _check_actions(config, option, figure)
        elif figure not in VALIDATION_FIGURES and not figure.endswith(RECALL):
            there = ", ".join(sorted((*VALIDATION_FIGURES, *ACTION_FIGURES, SPEED)))
            raise LapaError(
                f"--{option} {figure}: no validation figure; there are {there}, and SPRITE{RECALL} where RAM tells it."
            )


def _asked(config: SweepConfig) -> list[tuple[str, str]]:
    """Option to figure, of the objective and of each constraint."""
    constraints = [Constraint.parse(text) for text in config.constraints]
    return [("objective", config.objective), *(("constraints", constraint.figure) for constraint in constraints)]


def check_recalls(config: SweepConfig, planned: Mapping[str, Planned], dataset: FrameDataset) -> None:
    """Raise `LapaError` for the recall of a sprite that no validation tells."""
    is_grey = any(trial.model.colour == "grey" for _, trial in planned.values())
    there = [] if is_grey else recalls_of(dataset)
    for option, figure in _asked(config):
        if figure.endswith(RECALL) and figure not in there:
            told = f"there are {', '.join(there)}" if there else "sprites are told by RAM, a palette and colours alone"
            raise LapaError(f"--{option} {figure}: not of {dataset.name}; {told}.")


def _check_actions(config: SweepConfig, option: str, figure: str) -> None:
    """Raise `LapaError` where trainings are judged by it before their end, when it is told."""
    if option == "objective" and config.asha.enabled:
        raise LapaError(
            f"--objective {figure}: ASHA judges by validations, before it is told; add --asha.enabled false."
        )


def check_told(config: SweepConfig, planned: Mapping[str, Planned], dataset: FrameDataset) -> None:
    """Raise `LapaError` for a figure of codes as actions that no training of the plan tells."""
    has_ram = bool(walks_in(dataset, dataset.episode_ids[:1]))
    probed = [trial for _, trial in planned.values() if has_ram and trial.observe.num_swaps]
    has_palette = bool(len(dataset.info.palette))
    swapped = [
        trial for trial in probed if has_palette and trial.model.conditioning != "none" and trial.model.colour != "grey"
    ]
    for option, figure in _asked(config):
        if figure in PROBE_FIGURES and not probed:
            raise LapaError(f"--{option} {figure}: no training tells it; it needs RAM and observe.num_swaps above 0.")
        if figure in SWAP_FIGURES and not swapped:
            raise LapaError(
                f"--{option} {figure}: no training tells it; it needs RAM, a palette, model.conditioning, colours and "
                "observe.num_swaps above 0."
            )


def _check_speed(config: SweepConfig, option: str) -> None:
    """Raise `LapaError` unless every training logs its samples/s, more than once, and none is judged before its end."""
    if option == "objective" and config.asha.enabled:
        raise LapaError(
            f"--objective {SPEED}: ASHA judges by validations, which tell no speed; add --asha.enabled false."
        )
    period, most = config.train.resources.throughput_period_updates, config.train.training.max_updates
    if not period or most is None or 2 * period > most:
        raise LapaError(
            f"--{option} {SPEED}: needs two rows of it at least, since the first is warm-up; give "
            "--train.resources.throughput_period_updates at most half of --train.training.max_updates."
        )


def speed_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The median samples/s of a training's metric log; its first row, in which all begins, is left out."""
    rates = [row[SPEED] for row in rows if row.get(SPEED) is not None][1:]
    return {SPEED: median(rates)} if rates else {}


def validation_figures(told: Mapping[str, Any]) -> dict[str, float]:
    """Those of a row or a manifest; what was no number is null there, and is left out."""
    return {
        key.removeprefix("val_"): float(value)
        for key, value in told.items()
        if key.startswith("val_") and value is not None
    }
