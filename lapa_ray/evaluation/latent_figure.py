"""Latent figure: latents of agents in two dimensions → one picture, a row an embedding and a column a colouring.

Every row shows the same states. Knows no networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as MplFigure
from numpy.typing import NDArray

from lapa_ray.core.files import replacing
from lapa_ray.evaluation.charts import STYLE
from lapa_ray.evaluation.panels import DPI, LIGHT

PANEL_INCHES = (3.5, 3.0)
POINT, ALPHA = 5.0, 0.7
NUMBERS, KINDS = "viridis", {10: "tab10", 20: "tab20"}
UNKNOWN = "#c9ced6"


@dataclass(frozen=True)
class Colouring:
    """A value for each of N points; `names` if it is one of several kinds, numbered from 0, in place of a number."""

    title: str
    values: NDArray[Any]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class EmbeddingRow:
    """Points float [N, 2] called `title`, and how to colour them."""

    title: str
    points: NDArray[np.float64]
    colourings: Sequence[Colouring]


def write_latents(path: Path, rows: Sequence[EmbeddingRow]) -> None:
    """Write the picture as PNG, by rename. All rows have as many colourings."""
    num_columns = len(rows[0].colourings)
    size = (PANEL_INCHES[0] * num_columns, PANEL_INCHES[1] * len(rows))
    style: Any = {name: LIGHT.get(value, value) for name, value in STYLE.items()} | {"figure.facecolor": "white"}
    with mpl.rc_context(style):
        figure = MplFigure(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
        grid = figure.subplots(len(rows), num_columns, squeeze=False)
        for row, line in zip(rows, grid, strict=True):
            for colouring, axes in zip(row.colourings, line, strict=True):
                _draw(axes, row.points, colouring)
                axes.set_title(colouring.title, loc="left", fontsize=11)
            line[0].set_ylabel(row.title)
        with replacing(path) as temporary:
            FigureCanvasAgg(figure).print_png(str(temporary), metadata={"Software": None})


def _draw(axes: Axes, points: NDArray[np.float64], colouring: Colouring) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    if colouring.names:
        _draw_kinds(axes, points, colouring)
        return
    values = np.asarray(colouring.values, dtype=np.float64)
    known = np.isfinite(values)
    _scatter(axes, points[~known], color=UNKNOWN)
    drawn = _scatter(axes, points[known], c=values[known], cmap=NUMBERS, alpha=ALPHA)
    bar: Any = axes.figure.colorbar(drawn, ax=axes, fraction=0.05, pad=0.02)
    bar.outline.set_visible(False)
    bar.solids.set_alpha(1)


def _draw_kinds(axes: Axes, points: NDArray[np.float64], colouring: Colouring) -> None:
    """One colour a kind that occurs, named beside the points."""
    colours = mpl.colormaps[next(name for most, name in KINDS.items() if len(colouring.names) <= most)]
    for number in np.unique(colouring.values):
        colour, name = colours(int(number)), colouring.names[number]
        _scatter(axes, points[colouring.values == number], color=colour, alpha=ALPHA, label=name)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, markerscale=2.5, handletextpad=0.1)


def _scatter(axes: Axes, points: NDArray[np.float64], **how: Any) -> Any:
    return axes.scatter(points[:, 0], points[:, 1], s=POINT, linewidths=0, **how)
