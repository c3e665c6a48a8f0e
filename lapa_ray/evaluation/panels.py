"""Panels: bundles of learning curves → one chart for the page, or all of them in one picture that stands alone.

Each kind of run is a line, the interquartile mean of its runs, with its interval as a band and every run thinly behind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as MplFigure

from lapa_ray.core.files import replacing
from lapa_ray.evaluation.charts import DASHES, GRID, INK, MUTED, SERIES, STYLE, add_legend, chart, name_axes
from lapa_ray.evaluation.learning_curves import Bundle

LIGHT = {INK: "#16181d", MUTED: "#59606d", GRID: "#dfe2e7"} | dict(
    zip(SERIES, ("#0072b2", "#d55e00", "#00835f", "#a8457f", "#7a6200"), strict=True)
)
"""The page's colours by day (report.css), for a picture that no page colours."""
COLUMNS = 3
PANEL_INCHES = (3.9, 2.7)
LEGEND_INCHES = 0.5
DPI = 150


@dataclass(frozen=True)
class Panel:
    """One metric: its title, the name of its upright axis, and a bundle of curves by kind of run, in order."""

    title: str
    y_label: str
    bundles: Mapping[str, Bundle]


def panel_svg(panel: Panel, x_label: str) -> str:
    """The panel as SVG text for a page."""
    with chart(panel.title) as (figure, axes, svg):
        _draw(axes, panel, SERIES)
        name_axes(axes, x_label, panel.y_label)
        axes.set_xlim(left=0)
        add_legend(figure, axes, len(panel.bundles))
    return svg.text


def write_panels(path: Path, panels: Sequence[Panel], x_label: str) -> None:
    """Write all panels as one PNG picture, by rename."""
    num_rows = math.ceil(len(panels) / COLUMNS)
    size = (PANEL_INCHES[0] * COLUMNS, PANEL_INCHES[1] * num_rows + LEGEND_INCHES)
    style: Any = {name: LIGHT.get(value, value) for name, value in STYLE.items()} | {"figure.facecolor": "white"}
    with mpl.rc_context(style):
        figure = MplFigure(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
        grid = figure.subplots(num_rows, COLUMNS, squeeze=False).ravel()
        for axes, panel in zip(grid, panels, strict=False):
            _draw(axes, panel, [LIGHT[colour] for colour in SERIES])
            name_axes(axes, x_label, panel.title)
            axes.set_title(panel.title + (f", {panel.y_label}" if panel.y_label else ""), loc="left", color=LIGHT[INK])
            axes.set_xlim(left=0)
        for axes in grid[len(panels) :]:
            axes.remove()
        add_legend(figure, grid[0], len(panels[0].bundles))
        with replacing(path) as temporary:
            FigureCanvasAgg(figure).print_png(str(temporary), metadata={"Software": None})


def _draw(axes: Axes, panel: Panel, colours: Sequence[str]) -> None:
    for number, (label, bundle) in enumerate(panel.bundles.items()):
        colour, dash = colours[number % len(colours)], DASHES[number % len(DASHES)]
        for values in bundle.runs:
            axes.plot(bundle.steps, values, color=colour, linewidth=0.8, alpha=0.35)
        axes.plot(bundle.steps, bundle.middle, color=colour, linestyle=dash, linewidth=2.2, label=label)
        if np.isfinite(bundle.low).any():
            axes.fill_between(bundle.steps, bundle.low, bundle.high, color=colour, alpha=0.16, linewidth=0)
