"""Figures: what `evaluate` measures, each beside its baselines, as `figures.json` holds it and the report reads it.

A figure without a baseline says nothing of a model, so the schema has none. Knows not how anything was measured.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict

from lapa_ray.evaluation.estimates import Estimate
from lapa_ray.evaluation.event_lift import EventRow

BASELINES: dict[str, str] = {
    "random": "random play",
    "copy_last_frame": "copy-last frame",
    "median_frame": "median frame",
    "constant_grid": "constant grid",
    "copy_last_codes": "copy-last codes",
    "position_mode": "per-position mode",
    "random_codes": "random codes",
    "commonest_move": "the commonest move",
    "mean_place": "the mean",
}
"""Key to name of every baseline."""

REFERENCES: dict[str, str] = {
    "true_codes": "decoded true codes",
    "true_frame": "true frame",
    "cell_probe": "if codes said in which of 7 × 5 cells it is",
}
"""What is no baseline to beat but shown for comparison: a bound to come near to, which the truth itself sets; or, for
`cell_probe`, what the probe reads from codes that say one thing alone, which actions should stay far below."""

DECIMALS = {
    "points": 0, "screens": 0, "configurations": 0, "steps": 0, "cells": 1, "dots": 1, "px": 1,
    "dB": 2, "bits": 2, "levels": 2, "lives": 2,
}  # fmt: skip
"""Digits behind the point, by unit."""

Verdict = Literal["beats", "ahead", "overlaps", "equal", "below", "none"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Model):
    """One measured figure beside its baselines, on the same held-out data."""

    name: str
    """Key in the manifest; ends in its unit where it has one."""
    label: str
    """What it is called in tables."""
    unit: str
    """dB, %, levels, points, codes or bits; empty for a bare number. Shares are stored in [0, 1] and shown in %."""
    better: Literal["higher", "lower", "neither"]
    """Which way is good."""
    estimate: Estimate
    """Of the model."""
    baselines: dict[str, Estimate] = {}
    """Key in `BASELINES` to the baseline's figure."""
    references: dict[str, Estimate] = {}
    """Key in `REFERENCES` to its figure."""
    num_fitted: int | None = None
    """Training samples that what measures was itself fitted on; None where nothing was fitted, or nobody counted."""
    note: str = ""
    """What a reader has to know to read it rightly."""

    def best_baseline(self) -> str | None:
        """Key of the baseline that is hardest to beat; None where none was measured or neither way is good."""
        values = {key: estimate.value for key, estimate in self.baselines.items() if estimate.value is not None}
        if not values or self.better == "neither":
            return None
        best = max if self.better == "higher" else min
        return best(values, key=lambda key: values[key])

    def verdict(self) -> Verdict:
        """How the figure stands beside the hardest of its baselines.

        `beats`: better, and the intervals are apart; `overlaps`: better, but they overlap; `ahead`: better, but there
        is no interval to say how surely.
        """
        key = self.best_baseline()
        if key is None or self.estimate.value is None:
            return "none"
        ours, theirs = self._oriented(self.estimate), self._oriented(self.baselines[key])
        if ours[0] == theirs[0]:
            return "equal"
        if ours[0] < theirs[0]:
            return "below"
        if self.estimate.low is None:
            return "ahead"
        return "overlaps" if ours[1] <= theirs[2] else "beats"

    def _oriented(self, estimate: Estimate) -> tuple[float, float, float]:
        """Value and interval such that more is better; the interval is the value itself where there is none."""
        value = estimate.value if estimate.value is not None else 0.0
        low = value if estimate.low is None else estimate.low
        high = value if estimate.high is None else estimate.high
        return (value, low, high) if self.better == "higher" else (-value, -high, -low)


class FigureGroup(_Model):
    """The figures of one model."""

    name: str
    """Key: returns, reconstruction, reconstruction_parts, entities, codes, latent_actions or world_model."""
    title: str
    """Heading."""
    data: str
    """On what data they were measured, in one sentence."""
    figures: tuple[Figure, ...] = ()
    """Empty where nothing could be measured."""
    missing: str = ""
    """Why nothing, or not everything, was measured, a sentence for each reason; empty otherwise."""


class HorizonCurves(_Model):
    """One quantity at each horizon, for the model and its baselines."""

    name: str
    """Key of the quantity."""
    label: str
    """What it is called on the axis."""
    unit: str
    """As in `Figure`."""
    horizons: tuple[int, ...]
    """Steps into the future, from 1."""
    lines: dict[str, tuple[Estimate, ...]]
    """`model`, or a key of `BASELINES` or `REFERENCES`, to one estimate a horizon."""


class Evaluation(_Model):
    """Everything that was measured; `figures.json`."""

    game: str
    """Name of the game."""
    held_out_episodes: tuple[int, ...]
    """Episodes that no model was trained on, and that everything but the returns was measured on."""
    num_held_out_steps: int
    """Agent steps in them."""
    groups: tuple[FigureGroup, ...]
    """In the order of the chain."""
    curves: tuple[HorizonCurves, ...] = ()
    """By horizon."""
    events: tuple[EventRow, ...] = ()
    """What happens in the game, and the codes that answer it."""
    facts: dict[str, str] = {}
    """Rules by which pictures and samples were chosen, in a sentence each."""

    def figure(self, name: str) -> Figure | None:
        """The figure called `name`; None where it was not measured."""
        return next((f for group in self.groups for f in group.figures if f.name == name), None)

    def manifest_figures(self) -> dict[str, float | int | str | None]:
        """Every value, and `NAME_BASELINE` beside it, flat, for a manifest."""
        flat: dict[str, float | int | str | None] = {
            "num_held_out_episodes": len(self.held_out_episodes),
            "num_held_out_steps": self.num_held_out_steps,
        }
        for figure in (figure for group in self.groups for figure in group.figures):
            flat[figure.name] = figure.estimate.value
            flat |= {f"{figure.name}_{key}": estimate.value for key, estimate in figure.baselines.items()}
            flat |= {f"{figure.name}_{key}": estimate.value for key, estimate in figure.references.items()}
        return flat


def format_value(value: float | None, unit: str) -> str:
    """`value` as a reader wants it: shares in per cent, counts whole, all with their unit; None is "not measured"."""
    if value is None:
        return "not measured"
    if unit == "%":
        return f"{100 * value:.1f} %"
    if unit == "codes":
        return f"{value:,.1f}" if value != int(value) else f"{value:,.0f}"
    decimals = DECIMALS.get(unit, 3)
    return f"{value:,.{decimals}f} {unit}".strip().replace("-", "−")


def format_interval(estimate: Estimate, unit: str) -> str:
    """`low to high`, without the unit; empty where there is no interval."""
    if estimate.low is None or estimate.high is None:
        return ""
    low, high = (re.sub(r" \D+$", "", format_value(bound, unit)) for bound in (estimate.low, estimate.high))
    return f"{low} to {high}"


def describe_verdict(figure: Figure) -> str:
    """A plain sentence on how `figure` stands beside the hardest of its baselines."""
    key = figure.best_baseline()
    if figure.better == "neither":
        return "Not judged: neither way is better."
    if key is None:
        return "No baseline to compare with." if figure.estimate.value is not None else "Not measured."
    name = BASELINES[key]
    return {
        "beats": f"Beats the baseline: {name}.",
        "ahead": f"Better than the baseline ({name}), on too few episodes for an interval.",
        "overlaps": f"Better than the baseline ({name}), but the intervals overlap.",
        "equal": f"Level with the baseline: {name}.",
        "below": f"Below the baseline: {name}.",
        "none": "Not measured.",
    }[figure.verdict()]
