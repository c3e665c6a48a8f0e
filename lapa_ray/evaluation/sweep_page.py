"""The sweep's page: trainings and settings → one self-contained HTML document. Everything on it comes from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from lapa_ray.evaluation.charts import parallel_chart, scatter_chart
from lapa_ray.evaluation.images import png_file_uri
from lapa_ray.evaluation.sprite_recall import RECALL
from lapa_ray.evaluation.sweep_results import (
    SHEET,
    SWAP_SHEET,
    Setting,
    SweepResults,
    SweepTrial,
    none_is_best,
    ranked,
    significant,
)
from lapa_ray.evaluation.sweep_uses import FOUND, LEAKAGE, RANDOM_SWAP, SWAP, uses_sentence
from lapa_ray.evaluation.templates import page_template

SHOWN = (
    *("perplexity", "codes_used", "changed_psnr_db", "psnr_db", "player_recall_2px", "ball_recall_2px"),
    *("ssim", "loss"),
)
"""Figures of the table, if there are any such, beside the objective."""
LABELS = {
    "perplexity": "perplexity",
    "codes_used": "codes used",
    "changed_psnr_db": "PSNR on changed pixels, dB",
    "psnr_db": "PSNR, dB",
    "ssim": "SSIM",
    "loss": "loss",
    "samples_per_s": "samples/s",
    "delta_changed_psnr_db": "ΔPSNR₁ on changed pixels, dB",
    "delta_still_psnr_db": "ΔPSNR₁ on still pixels, dB",
    SWAP: "code swap: moves alike, %",
    RANDOM_SWAP: "random codes: move alike, %",
    FOUND: "code swap: player found, %",
    LEAKAGE: "leakage R²",
}
USES = (
    ("Tokens against actions", ("changed_psnr_db", "delta_changed_psnr_db")),
    ("What moves against what stands still", ("delta_still_psnr_db", "delta_changed_psnr_db")),
    ("Tokens against code swaps", ("changed_psnr_db", SWAP)),
)
"""Scatter charts: title to its figures across and up."""
USE_COLUMNS = (
    *("psnr_db", "changed_psnr_db", "delta_changed_psnr_db", "delta_still_psnr_db"),
    *(SWAP, RANDOM_SWAP, LEAKAGE),
)
SHEETS = {
    SHEET: "Frame t, frame t+1, reconstruction and error of held-out pairs",
    SWAP_SHEET: "Frames t and t+1 of pair A, frame t of pair B, and A's codes decoded beside it",
}
Sheets = Mapping[str, Mapping[str, Path]]
SHARES = (SWAP, RANDOM_SWAP, FOUND)
"""Figures in [0, 1] that are shown in %, as sprites' recalls are."""
NUM_SHEETS = 6
"""Settings of which pictures are shown, the best first."""
NUM_MARKS = 5
"""Marks of a figure's axis in parallel coordinates."""


def render_sweep(results: SweepResults, config: Mapping[str, Any], made: str, sheets: Sheets) -> str:
    """The page. `config`: the resolved config; `made`: when; `sheets`: see `shown_sweep`."""
    return page_template("sweep.html.j2").render(shown=shown_sweep(results, sheets), config=config, made=made)


def shown_sweep(results: SweepResults, sheets: Sheets) -> dict[str, Any]:
    """What the report shows too: the result in a sentence, tables, charts and pictures.

    `sheets`: by file name and then by the name of a training, the PNG files in which it shows what it makes of held-out
    pairs, and of code swaps; those that there are.
    """
    trials, settings, best, objective = results.trials, results.settings, results.best, results.objective
    known = set().union(*(trial.figures for trial in trials))
    columns = [objective, *(name for name in SHOWN if name in known and name != objective)]
    return {
        "trials": trials,
        "some_ended_early": any(trial.state == "ended early" for trial in trials),
        "failed": [trial for trial in trials if trial.state == "failed"],
        "rows": [_row(setting, columns, is_best=setting is best) for setting in settings],
        "options": list(settings[0].values),
        "columns": [_label(name) for name in columns],
        "sentence": _sentence(results),
        "baselines": _baselines(settings, columns),
        "scatter": _scatter(trials, settings, ("changed_psnr_db", "perplexity")),
        "uses": _uses(trials, settings),
        "use_columns": [_label(name) for name in USE_COLUMNS],
        "use_rows": [_row(setting, USE_COLUMNS, is_best=setting is best) for setting in settings],
        "uses_sentence": uses_sentence(settings),
        "parallel": _parallel(settings, best, objective),
        "sheets": _sheets(results, sheets),
    }


def _label(name: str) -> str:
    sprite = name.removesuffix(RECALL)
    return f"{sprite} found within 2 px, %" if sprite != name else LABELS.get(name, name)


def _row(setting: Setting, columns: Sequence[str], *, is_best: bool) -> dict[str, Any]:
    return {
        "values": [str(value) for value in setting.values.values()],
        "cells": [_cell(setting, name) for name in columns],
        "whole": f"{setting.num_whole} of {setting.num_trials}",
        "is_best": is_best,
        "meets": setting.meets_constraints,
    }


def _cell(setting: Setting, name: str) -> str:
    if name not in setting.means:
        return "–"
    mean, deviation = _text(name, setting.means[name]), setting.deviations[name]
    return mean if deviation is None else f"{mean} ± {significant(_shown(name, deviation), 2)}"


def _text(name: str, figure: float) -> str:
    return significant(_shown(name, figure), 4)


def _shown(name: str, figure: float) -> float:
    return 100 * figure if name.endswith(RECALL) or name in SHARES else figure


def _sentence(results: SweepResults) -> str:
    most = "highest" if results.mode == "max" else "lowest"
    settings, objective, best = results.settings, results.objective, results.best
    subject = f" of those with {' and '.join(results.constraints)}" if results.constraints else ""
    if best is None:
        return none_is_best(len(settings), objective, results.constraints)
    return (
        f"Of {len(settings)} settings{subject}, {best.words} has the {most} mean "
        f"{_label(objective)}: {_cell(best, objective)}{_next(results)}."
    )


def _next(results: SweepResults) -> str:
    """The second best, beside whose spread over seeds the best is to be read."""
    second = ranked(results.settings, results.objective, results.mode)[1:2]
    return "".join(f"; next is {each.words}: {_cell(each, results.objective)}" for each in second)


def _baselines(settings: Sequence[Setting], columns: Sequence[str]) -> str:
    """Copy-last on the same pairs; by setting where settings see other pictures (grey, another composite or split)."""
    found: dict[str, list[Setting]] = {}
    for setting in settings:
        told = [
            f"{_label(name)}: {_text(name, setting.means[f'copy_last_{name}'])}"
            for name in columns
            if f"copy_last_{name}" in setting.means
        ]
        if told:
            found.setdefault(", ".join(told), []).append(setting)
    if len(found) < 2:
        return next(iter(found), "")
    return "; ".join(f"{text} ({' and '.join(setting.words for setting in group)})" for text, group in found.items())


def _uses(trials: Sequence[SweepTrial], settings: Sequence[Setting]) -> list[tuple[str, Markup]]:
    """What codes are worth as frame tokens against what they do as actions; what was measured."""
    drawn = [(title, _scatter(trials, settings, axes)) for title, axes in USES]
    return [(title, svg) for title, svg in drawn if svg is not None]


def _sheets(results: SweepResults, sheets: Sheets) -> list[tuple[str, list[tuple[str, str]]]]:
    """Of the best settings, name and pictures, with what they are, of the first whole training that has any."""
    shown = []
    for setting in ranked(results.settings, results.objective, results.mode):
        names = [trial.name for trial in results.trials if trial.setting == setting.values and trial.state == "whole"]
        found = next((pictures for name in names if (pictures := _pictures(sheets, name))), None)
        if found is not None:
            shown.append((setting.words, found))
    return shown[:NUM_SHEETS]


def _pictures(sheets: Sheets, trial: str) -> list[tuple[str, str]]:
    paths = ((text, sheets.get(name, {}).get(trial)) for name, text in SHEETS.items())
    return [(text, png_file_uri(path)) for text, path in paths if path is not None]


def _scatter(trials: Sequence[SweepTrial], settings: Sequence[Setting], axes: tuple[str, str]) -> Markup | None:
    """Two figures against each other, a point a training, a colour a value of the first option."""
    if not settings[0].values:
        return None
    option = next(iter(settings[0].values))
    groups = []  # of all values, so that each keeps its colour in every chart
    for value in dict.fromkeys(str(setting.values[option]) for setting in settings):
        chosen = [
            trial.figures for trial in trials if str(trial.setting[option]) == value and set(axes) <= set(trial.figures)
        ]
        x, y = ([_shown(name, figures[name]) for figures in chosen] for name in axes)
        groups.append((f"{option.rpartition('.')[2]} {value}", x, y))
    if not any(x for _, x, _ in groups):
        return None
    return Markup(
        scatter_chart(
            groups,
            title=f"{_label(axes[1])} against {_label(axes[0])}, by training",
            x_label=_label(axes[0]),
            y_label=_label(axes[1]),
        )
    )


def _parallel(settings: Sequence[Setting], best: Setting | None, objective: str) -> Markup | None:
    """The options and the objective as upright axes, a line a setting."""
    told = [setting for setting in settings if objective in setting.means]
    if len(told) < 2:
        return None
    axes, columns = [], []
    for option in told[0].values:
        values = list(dict.fromkeys(str(setting.values[option]) for setting in told))
        axes.append((option.rpartition(".")[2], values))
        columns.append([values.index(str(setting.values[option])) for setting in told])
    figures = np.array([_shown(objective, setting.means[objective]) for setting in told])
    marks, width = np.linspace(figures.min(), figures.max(), NUM_MARKS), np.ptp(figures) or 1.0
    axes.append((_label(objective), [significant(mark, 3) for mark in marks]))
    columns.append(((NUM_MARKS - 1) * (figures - figures.min()) / width).tolist())
    strong = next((number for number, setting in enumerate(told) if setting is best), None)
    rows = [list(row) for row in zip(*columns, strict=True)]
    return Markup(parallel_chart(axes, rows, strong, title="Settings and what they came to"))
