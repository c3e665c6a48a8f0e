"""The data page: what was measured of datasets → one self-contained HTML document, and the parts the report shows too.

Knows no dataset and no stage; what was not measured is said to be so, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from lapa_ray.envs.mazes import NUM_MAZES, maze_of
from lapa_ray.envs.ms_pacman import LAST_TOLD_LEVEL
from lapa_ray.evaluation.charts import Interval, Series, dot_chart, interval_chart, line_chart
from lapa_ray.evaluation.data_quality import DataExhibit, DataFigure, DataQuality, DatasetQuality, Measured
from lapa_ray.evaluation.figures import format_interval, format_value
from lapa_ray.evaluation.images import colour, png_data_uri
from lapa_ray.evaluation.templates import page_template

GROUPS = {
    "episodes": "Episodes",
    "pictures": "Pictures",
    "actions": "Actions",
    "play": "Play, from RAM",
}
"""Group of figures to its heading."""
CHARTED = (
    "return_mean",
    "distinct_screens_drawn",
    "player_cells_share",
    "ghost_configurations_drawn",
    "dots_eaten_mean",
    "frozen_share",
    "frightened_share",
    "action_entropy_bits",
)
MAIN = (*CHARTED, "terminated_share", "second_maze_share")
"""The figures that the report shows."""
DOTS_TITLE = "Dots eaten over the steps of an episode"
WALL = (124, 130, 141)
HOT = 8
"""Times the even share of steps that a cell is shown in the lightest colour at."""


def render_data_page(measured: Measured, made: str) -> str:
    """The page as HTML text. `made`: when, in words."""
    quality = measured.quality
    html = page_template("data_quality.html.j2").render(
        made=made,
        quality=quality,
        groups=[(title, [f for f in quality.figures if f.group == group]) for group, title in GROUPS.items()],
        charts=_interval_charts(quality),
        actions=_action_tables(measured),
        shown=shown_parts(measured),
    )
    return html.strip() + "\n"


def shown_parts(measured: Measured) -> dict[str, Any]:
    """What the report shows too: main figures, maps of where the player was, dots eaten, levels and mazes."""
    quality = measured.quality
    return {
        "datasets": quality.datasets,
        "main": [figure for figure in quality.figures if figure.name in MAIN],
        "maps": _maps(measured),
        "hot": HOT,
        "dots": _dots_chart(measured),
        "returns": _returns_chart(measured),
        "levels": _levels(measured),
    }


def describe(quality: DataQuality) -> list[tuple[str, list[str]]]:
    """Every figure as text: its label with its unit, and for each dataset the value and its interval."""
    rows = [("Episodes", [f"{dataset.num_episodes:,}" for dataset in quality.datasets])]
    for figure in quality.figures:
        named = not figure.unit or figure.unit in figure.label.lower()
        label = figure.label if named else f"{figure.label}, {figure.unit}"
        rows.append((label, [_cell(figure, dataset) for dataset in quality.datasets]))
    return rows


def not_measured(quality: DataQuality) -> list[str]:
    """What the dashes of `describe` mean: a line for each dataset and reason."""
    return [
        f"{dataset.name}: – is not measured: {reason}"
        for dataset in quality.datasets
        for reason in dict.fromkeys(dataset.missing.values())
    ]


def _cell(figure: DataFigure, dataset: DatasetQuality) -> str:
    estimate = dataset.estimates.get(figure.name)
    if estimate is None:
        return "–"
    interval = format_interval(estimate, figure.unit)
    value = format_value(estimate.value, figure.unit).removesuffix(figure.unit).rstrip()
    return value + (f" ({interval})" if interval else "")


def _interval_charts(quality: DataQuality) -> list[tuple[str, Markup]]:
    charts = []
    for figure in (figure for name in CHARTED for figure in quality.figures if figure.name == name):
        rows = [_interval(dataset, figure.name) for dataset in quality.datasets]
        if any(row.value is not None for row in rows):
            percent = figure.unit == "%"
            svg = interval_chart(rows, title=figure.label, x_label="" if percent else figure.unit, percent=percent)
            charts.append((figure.label, Markup(svg)))
    return charts


def _interval(dataset: DatasetQuality, name: str) -> Interval:
    estimate = dataset.estimates.get(name)
    if estimate is None:
        return Interval(dataset.name, None, None, None)
    return Interval(dataset.name, estimate.value, estimate.low, estimate.high)


def _with(measured: Measured, has: Callable[[DataExhibit], int]) -> list[tuple[DatasetQuality, DataExhibit]]:
    """Datasets and exhibits of those that have something to show."""
    pairs = zip(measured.quality.datasets, measured.exhibits, strict=True)
    return [(dataset, exhibit) for dataset, exhibit in pairs if has(exhibit)]


def _maps(measured: Measured) -> list[dict[str, Any]]:
    return [
        {
            "dataset": dataset,
            "mazes": [
                {"number": maze + 1, **_map(exhibit.player_cells, maze)}
                for maze in range(NUM_MAZES)
                if exhibit.player_cells[maze].any()
            ],
        }
        for dataset, exhibit in _with(measured, lambda exhibit: int(exhibit.player_cells.sum()))
    ]


def _map(player_cells: NDArray[np.int64], maze: int) -> dict[str, Any]:
    floor, steps = maze_of(maze).floor.ravel(), player_cells[maze]
    return {
        "uri": png_data_uri(coverage_picture(steps, maze)),
        "visited": int((floor & (steps > 0)).sum()),
        "cells": int(floor.sum()),
        "steps": int(steps.sum()),
    }


def coverage_picture(steps: NDArray[np.int64], maze: int) -> NDArray[np.uint8]:
    """Steps [252] by cell of `maze` as a picture uint8 [14, 18, 3]: never black, `HOT` times the even share lightest.

    On a square-root scale; walls are grey.
    """
    floor = maze_of(maze).floor
    even = max(int(steps.sum()), 1) / int(floor.sum())
    picture = colour(np.sqrt(steps.reshape(floor.shape) / (HOT * even)))
    picture[~floor] = WALL
    return picture


def _dots_chart(measured: Measured) -> Markup | None:
    """A line a dataset: of one that was not measured the name alone, so that colours mean the same in all charts."""
    pairs = list(zip(measured.quality.datasets, measured.exhibits, strict=True))
    if not any(len(exhibit.dots_steps) for _, exhibit in pairs):
        return None
    lines = [
        Series(dataset.name, exhibit.dots_steps, *exhibit.dots.T)
        if len(exhibit.dots_steps)
        else Series(f"{dataset.name}: not measured", [0.0], [np.nan])
        for dataset, exhibit in pairs
    ]
    svg = line_chart(lines, title=DOTS_TITLE, x_label="agent steps", y_label="dots, mean of episodes", from_zero=True)
    return Markup(svg)


def _returns_chart(measured: Measured) -> Markup | None:
    pairs = list(zip(measured.quality.datasets, measured.exhibits, strict=True))
    if not any(len(exhibit.returns) for _, exhibit in pairs):
        return None
    groups = [(dataset.name, exhibit.returns) for dataset, exhibit in pairs]
    return Markup(dot_chart(groups, title="Return of each episode", x_label="points"))


def _levels(measured: Measured) -> dict[str, Any] | None:
    """Of each dataset, how many episodes reached each level, and the share of steps in play in each maze."""
    shown = _with(measured, lambda exhibit: len(exhibit.levels))
    if not shown:
        return None
    highest = max(int(exhibit.levels.max()) for _, exhibit in shown)
    return {
        "names": [f"{level + 1}{' or later' if level == LAST_TOLD_LEVEL else ''}" for level in range(highest + 1)],
        "rows": [
            {
                "dataset": dataset,
                "reached": [int((exhibit.levels >= level).sum()) for level in range(highest + 1)],
                "mazes": (exhibit.player_cells.sum(axis=1) / max(int(exhibit.player_cells.sum()), 1)).tolist(),
            }
            for dataset, exhibit in shown
        ],
    }


def _action_tables(measured: Measured) -> list[dict[str, Any]]:
    """Of each dataset, a row an action asked for: its share of all steps, and what ran when it was asked for."""
    tables = []
    for dataset, exhibit in _with(measured, lambda exhibit: int(exhibit.actions.sum())):
        asked = exhibit.actions.sum(axis=1)
        ran = exhibit.actions / np.maximum(asked, 1)[:, None]
        rows = [
            (name, float(asked[index] / asked.sum()), ran[index].tolist() if asked[index] else None)
            for index, name in enumerate(dataset.action_meanings)
        ]
        tables.append({"dataset": dataset, "rows": rows})
    return tables
