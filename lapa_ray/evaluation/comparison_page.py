"""The comparison's page: what training with both replays came to → one self-contained HTML document.

Everything on it comes from what it is given; a failed trial is shown as failed, and is part of no figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lapa_ray.core.errors import LapaError
from lapa_ray.evaluation.comparison import PICTURE, REPLAYS, TRAINING_GROUP, Comparison, Measure, Replay, TrialLog
from lapa_ray.evaluation.data_quality_page import GROUPS
from lapa_ray.evaluation.figures import format_value
from lapa_ray.evaluation.images import png_file_uri
from lapa_ray.evaluation.learning_curves import METRICS, bundle
from lapa_ray.evaluation.panels import Panel, panel_svg
from lapa_ray.evaluation.run_statistics import MIN_RUNS_FOR_INTERVAL, Interval
from lapa_ray.evaluation.templates import page_template

LABELS: dict[Replay, str] = {"uniform": "uniform replay", "prioritised": "prioritised replay (PER)"}


@dataclass(frozen=True)
class ShownComparison:
    """What the report shows of a comparison: a sentence, its tables, and its curves as a data URI."""

    sentence: str
    parts: Mapping[str, Any]
    picture: str

    @classmethod
    def load(cls, folder: Path) -> ShownComparison:
        """Read a comparison artefact. Raises `LapaError` if a file is damaged or missing."""
        comparison, path = Comparison.load(folder), folder / PICTURE
        try:
            picture = png_file_uri(path)
        except OSError as error:
            raise LapaError(f"{path}: damaged ({error.strerror}); run compare-replay again.") from error
        return cls(verdict(comparison), shown_comparison(comparison), picture)


def comparison_panels(logs: Sequence[TrialLog], comparison: Comparison, seed: int) -> dict[str, Panel]:
    """Name of each metric to its curves of both replays; what no trial logged has none."""
    panels = {}
    for metric in METRICS:
        runs = {LABELS[replay]: _rows(logs, replay) for replay in REPLAYS}
        bundles = {label: bundle(rows, metric, comparison.num_steps, seed) for label, rows in runs.items()}
        if any(len(of_replay.runs) for of_replay in bundles.values()):
            panels[metric.name] = Panel(metric.label, metric.unit, bundles)
    return panels


def _rows(logs: Sequence[TrialLog], replay: Replay) -> list[Sequence[Mapping[str, Any]]]:
    return [log.rows for log in logs if log.trial.replay == replay and not log.trial.failure]


def render_comparison(comparison: Comparison, panels: Mapping[str, Panel], config: Mapping[str, Any], made: str) -> str:
    """The page as HTML text. `made`: when, in words; `config`: of the stage, as its manifest has it."""
    html = page_template("comparison.html.j2").render(
        comparison=comparison,
        sentence=verdict(comparison),
        shown=shown_comparison(comparison),
        charts=[(panel.title, Markup(panel_svg(panel, "agent steps"))) for panel in panels.values()],
        config=config,
        made=made,
    )
    return html.strip() + "\n"


def shown_comparison(comparison: Comparison) -> dict[str, Any]:
    """What the report shows too: tables of the training and of the data."""
    groups = {TRAINING_GROUP: "Training"} | GROUPS
    by_group = {title: [m for m in comparison.measures if m.group == group] for group, title in groups.items()}
    return {
        "comparison": comparison,
        "labels": LABELS,
        "training": by_group.pop("Training"),
        "data": [(title, measures) for title, measures in by_group.items() if measures],
        "num_failed": sum(bool(trial.failure) for trial in comparison.trials),
        "num_seeds": {replay: _num_seeds(comparison, replay) for replay in REPLAYS},
        "few": MIN_RUNS_FOR_INTERVAL,
    }


def _num_seeds(comparison: Comparison, replay: Replay) -> int:
    return sum(trial.replay == replay and not trial.failure for trial in comparison.trials)


def verdict(comparison: Comparison) -> str:
    """One sentence on the returns at the end."""
    uniform, prioritised = (comparison.summaries[replay]["return"].iqm for replay in REPLAYS)
    if uniform.value is None or prioritised.value is None:
        return "No episode ended in the last steps of one of the replays, so their returns cannot be compared."
    higher = prioritised.value - uniform.value
    how = "above" if higher > 0 else "below" if higher < 0 else "level with"
    ours, theirs = _words(prioritised), _words(uniform)
    said = f"Prioritised replay ends with a return of {ours}, {how} the {theirs} of uniform replay"
    return f"{said}; {_surely(uniform, prioritised)}"


def _words(interval: Interval) -> str:
    text = f"{interval.value:,.0f}".replace("-", "−")
    return text if interval.low is None else f"{text} ({interval.low:,.0f} to {interval.high:,.0f})"


def _surely(uniform: Interval, prioritised: Interval) -> str:
    ends = (uniform.low, uniform.high, prioritised.low, prioritised.high)
    if any(end is None for end in ends):
        return f"with fewer than {MIN_RUNS_FOR_INTERVAL} seeds to tell of it there is no interval to say how surely."
    low, high, other_low, other_high = (end for end in ends if end is not None)
    how = "are apart" if high < other_low or other_high < low else "overlap"
    return f"their 95 % intervals over seeds {how}."


def describe(comparison: Comparison) -> list[tuple[str, ...]]:
    """The training's table as text: each measure with its unit, both replays and how likely PER has more of it."""
    rows = [_row(comparison, measure) for measure in comparison.measures if measure.group == TRAINING_GROUP]
    return [("Seeds", *(str(_num_seeds(comparison, replay)) for replay in REPLAYS), ""), *rows]


def _row(comparison: Comparison, measure: Measure) -> tuple[str, ...]:
    is_named = not measure.unit or measure.unit in measure.label.lower()
    label = measure.label if is_named else f"{measure.label}, {measure.unit}"
    values = [_cell(comparison.summaries[replay][measure.name].iqm, measure.unit) for replay in REPLAYS]
    return (label, *values, _cell(comparison.improvements[measure.name], "%"))


def _cell(interval: Interval, unit: str) -> str:
    if interval.value is None:
        return "–"
    value, low, high = (
        "" if end is None else format_value(end, unit).removesuffix(unit).rstrip()
        for end in (interval.value, interval.low, interval.high)
    )
    return f"{value} ({low} to {high})" if low else value
