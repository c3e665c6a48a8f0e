"""Charts: numbers → SVG text to be set into an HTML page, in one typography and a colour-blind-safe palette.

Colours are written as CSS variables of the page (`--ink`, `--series-1` …), so one chart reads well in light and dark.
Lines differ in dash as well as in colour. Knows nothing of what is drawn.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

Numbers = Sequence[float] | NDArray[np.floating] | NDArray[np.integer]

INK, MUTED, GRID = "#0d0d01", "#0d0d02", "#0d0d03"
SERIES = tuple(f"#0d0d1{n}" for n in range(1, 6))
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid"} | {c: f"--series-{c[-1]}" for c in SERIES}
"""Stand-in colours, which the drawing library understands, to the variables of the page that take their place."""
DASHES = ("-", (0, (5, 2)), (0, (1, 1.6)), (0, (6, 2, 1, 2)), (0, (3, 1.5)))

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MAX_POINTS = 240
"""Longer series are drawn as means of equal bins: more cannot be seen, and the page stays small."""
SIZE = (5.0, 3.0)
"""Inches; a chart is shown about 360 px wide."""
LONGEST_LABEL = 22
"""Characters of a row's name in a line."""
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.size": 11,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.linewidth": 1,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "text.color": INK,
    "grid.color": GRID,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 10.5,
}


@dataclass(frozen=True)
class Series:
    """One line: `x`, `y` and, where there is one, the band from `low` to `high`. Not-a-numbers are gaps."""

    label: str
    x: Numbers
    y: Numbers
    low: Numbers | None = None
    high: Numbers | None = None


@dataclass(frozen=True)
class Interval:
    """A value called `label`, None where it was not measured; `low` and `high` are None where there is no interval."""

    label: str
    value: float | None
    low: float | None
    high: float | None


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    percent: bool = False,
    from_zero: bool = False,
) -> str:
    """SVG of lines, the first one drawn strongest.

    `percent`: y in [0, 1] is written in per cent. `from_zero`: the x axis starts there.
    """
    with chart(title) as (figure, axes, svg):
        for number, line in enumerate(series):
            _draw_line(axes, line, number)
        name_axes(axes, x_label, y_label)
        if from_zero:
            axes.set_xlim(left=0)
        if percent:
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        if len(series) > 1:
            add_legend(figure, axes, len(series))
    return svg.text


def scatter_chart(groups: Sequence[tuple[str, Numbers, Numbers]], *, title: str, x_label: str, y_label: str) -> str:
    """SVG of points (label, x, y), a colour and a marker a group."""
    with chart(title, height=3.6) as (figure, axes, svg):
        for number, (label, x, y) in enumerate(groups):
            marker = MARKERS[number % len(MARKERS)]
            axes.plot(x, y, marker, color=_colour(number), alpha=0.85, markersize=7, markeredgewidth=0, label=label)
        name_axes(axes, x_label, y_label)
        axes.grid(visible=True, axis="x", linewidth=0.8)
        if len(groups) > 1:
            add_legend(figure, axes, len(groups))
    return svg.text


def parallel_chart(
    axes_of: Sequence[tuple[str, Sequence[str]]], rows: Sequence[Sequence[float]], strong: int | None, *, title: str
) -> str:
    """SVG of parallel coordinates: upright axes (name, its values from below), a line a row of value numbers.

    A number between two is a place between these values. Line `strong` is drawn strongest.
    """
    with chart(title, height=3.6) as (_, axes, svg):
        for place, (_name, values) in enumerate(axes_of):
            axes.axvline(place, color=MUTED, linewidth=1)
            for number, value in enumerate(values):
                axes.annotate(
                    value, (place, _height(number, len(values))), xytext=(4, 3), textcoords="offset points", color=MUTED
                )
        for number, row in enumerate(rows):
            heights = [_height(value, len(values)) for value, (_, values) in zip(row, axes_of, strict=True)]
            is_strong = number == strong
            axes.plot(
                range(len(axes_of)),
                heights,
                color=SERIES[1 if is_strong else 0],
                linewidth=3 if is_strong else 1.4,
                alpha=1 if is_strong else 0.6,
                zorder=3 if is_strong else 2,
            )
        axes.set_xlim(-0.1, max(len(axes_of) - 0.6, 0.4))
        axes.set_ylim(-0.08, 1.12)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xticks(range(len(axes_of)), [name for name, _ in axes_of], color=INK)
    return svg.text


def _height(number: float, count: int) -> float:
    return 0.5 if count < 2 else number / (count - 1)


def usage_chart(counts: NDArray[np.integer], *, title: str, x_label: str, y_label: str) -> str:
    """SVG of counts [n] as shares, most frequent first, beside an even share of all."""
    shares = np.sort(counts)[::-1] / max(int(counts.sum()), 1)
    with chart(title) as (_, axes, svg):
        axes.fill_between(np.arange(len(shares)), shares, step="post", color=SERIES[0], alpha=0.85, linewidth=0)
        axes.axhline(1 / len(shares), color=MUTED, linestyle=DASHES[1], linewidth=1)
        axes.annotate(
            f"even use: {100 / len(shares):.2g} %",
            (len(shares), 1 / len(shares)),
            xytext=(0, 4),
            textcoords="offset points",
            ha="right",
            color=MUTED,
        )
        axes.set_ylim(bottom=0)
        name_axes(axes, x_label, y_label)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    return svg.text


def dot_chart(groups: Sequence[tuple[str, Numbers]], *, title: str, x_label: str) -> str:
    """SVG with a row of dots a group, one dot a value, and a bar at their mean; a group may be empty."""
    with chart(title, height=0.9 + 0.75 * len(groups)) as (_, axes, svg):
        for row, (_label, values) in enumerate(groups):
            spread = 0.11 * np.resize([0.0, 1.0, -1.0, 0.5, -0.5], len(values))
            axes.plot(values, row + spread, "o", color=_colour(row), alpha=0.65, markersize=6, markeredgewidth=0)
            if len(values):
                axes.plot([np.mean(values)] * 2, [row - 0.3, row + 0.3], color=INK, linewidth=2.5)
        axes.set_xlim(left=min([0.0, *(float(np.min(values)) for _, values in groups if len(values))]))
        name_axes(axes, x_label, "")
        _name_rows(axes, [label for label, _ in groups])
    return svg.text


def interval_chart(rows: Sequence[Interval], *, title: str, x_label: str, percent: bool = False) -> str:
    """SVG with a value a row, and its interval where it has one; x from zero, in per cent of 1 if `percent`."""
    with chart(title, height=0.85 + 0.42 * len(rows)) as (_, axes, svg):
        for row, interval in enumerate(rows):
            _draw_interval(axes, interval, row)
        axes.set_xlim(left=min([0.0, *(row.value if row.low is None else row.low for row in rows if row.value)]))
        name_axes(axes, x_label, "")
        _name_rows(axes, [interval.label for interval in rows])
        if percent:
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    return svg.text


def _draw_interval(axes: Axes, interval: Interval, row: int) -> None:
    if interval.value is None:
        axes.annotate("not measured", (0, row), xytext=(4, 0), textcoords="offset points", va="center", color=MUTED)
        return
    if interval.low is not None and interval.high is not None:
        axes.plot([interval.low, interval.high], [row, row], color=_colour(row), linewidth=5, alpha=0.35)
    axes.plot(
        [interval.value], [row], "o", color=_colour(row), markersize=8, markeredgewidth=0, clip_on=False, zorder=3
    )


def _name_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Rows from top to bottom, named on the left."""
    axes.set_yticks(range(len(labels)), [textwrap.fill(label, LONGEST_LABEL) for label in labels], color=INK)
    axes.set_ylim(len(labels) - 0.45, -0.55)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", linewidth=0.8)


def _colour(number: int) -> str:
    return SERIES[number % len(SERIES)]


def _draw_line(axes: Axes, line: Series, number: int) -> None:
    x, y = _thin(line.x), _thin(line.y)
    colour, dash = _colour(number), DASHES[number % len(DASHES)]
    marker = "o" if np.isfinite(y).sum() <= 16 else None
    width = 2.2 if number == 0 else 1.7
    axes.plot(x, y, color=colour, linestyle=dash, linewidth=width, marker=marker, markersize=4, label=line.label)
    if line.low is not None and line.high is not None:
        axes.fill_between(x, _thin(line.low), _thin(line.high), color=colour, alpha=0.16, linewidth=0)


def _thin(values: Numbers) -> NDArray[np.float64]:
    """At most `MAX_POINTS` values: means of equal bins, without what is not a number."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) <= MAX_POINTS:
        return array
    return np.array([_mean(part) for part in np.array_split(array, MAX_POINTS)])


def _mean(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def name_axes(axes: Axes, x_label: str, y_label: str) -> None:
    """Name both axes, the upright one above it, and rule the chart."""
    axes.set_xlabel(x_label)
    axes.set_title(y_label, loc="left", fontsize=11, color=MUTED, pad=8)
    axes.grid(visible=True, axis="y", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=3)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(_short))


def _short(value: float, _position: int) -> str:
    for limit, suffix in ((1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if suffix == 'k' else 1e6):g}{suffix}"
    return f"{value:g}"


def add_legend(figure: MplFigure, axes: Axes, count: int) -> None:
    """Name the `count` labelled lines of `axes` below the figure."""
    columns = 2 if count > 1 else 1
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower left",
        ncols=columns,
        handlelength=2.6,
        columnspacing=1.4,
        labelspacing=0.3,
    )


class Svg:
    """What a chart has become when its block ends."""

    text = ""


@contextmanager
def chart(title: str, height: float = SIZE[1]) -> Iterator[tuple[MplFigure, Axes, Svg]]:
    """Axes to draw on; when the block ends the drawing stands in the third item's `text`."""
    svg = Svg()
    style: Any = STYLE | {"svg.hashsalt": title}
    with mpl.rc_context(style):
        figure = MplFigure(figsize=(SIZE[0], height), layout="constrained", facecolor="none")
        axes = figure.add_subplot()
        yield figure, axes, svg
        file = io.StringIO()
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg.text = _for_page(file.getvalue(), title)


def _for_page(svg: str, title: str) -> str:
    """`svg` as an element of a page: its colours and fonts, a text for those who cannot see it, no ids to clash."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"#0d0d[01]\d", lambda match: f"var({VARIABLES[match.group()]})", body)
    body = re.sub(r"font-family: [^;\"]+", "font-family: inherit", body)
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"\n\s*", " ", body)
    body = body.replace("xlink:href", "href")
    used = set(re.findall(r"(?:href=\"|url\()#([\w-]+)", body))
    body = re.sub(r' id="([^"]+)"', lambda match: match.group() if match.group(1) in used else "", body)
    box = re.search(r'viewBox="[^"]+"', body)
    assert box is not None
    head = f'<svg {box.group()} role="img" aria-label="{escape(title)}" class="chart" stroke-linejoin="round">'
    return head + body[body.index(">") + 1 :]
