"""Horizon charts: figures at each number of steps ahead → charts of the model beside its baselines."""

from __future__ import annotations

from lapa_ray.evaluation.charts import Series, line_chart
from lapa_ray.evaluation.estimates import Estimate
from lapa_ray.evaluation.figures import BASELINES, REFERENCES, Evaluation, HorizonCurves

TITLES = {
    "open_loop_accuracy": "Open-loop token accuracy",
    "open_loop_accuracy_changed": "Open-loop accuracy on changed tokens",
    "imagined_psnr_db": "PSNR of imagined frames",
    "imagined_changed_psnr_db": "PSNR of imagined frames, changed pixels",
}
NAMES = {"model": "world model"} | BASELINES | REFERENCES


def horizon_charts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Title and SVG of each curve that has anything to show."""
    return [(TITLES[curves.name], _chart(curves)) for curves in evaluation.curves if _lines(curves)]


def _chart(curves: HorizonCurves) -> str:
    return line_chart(
        _lines(curves),
        title=f"{TITLES[curves.name]} by horizon",
        x_label="horizon, steps ahead",
        y_label=curves.label,
        percent=curves.unit == "%",
    )


def _lines(curves: HorizonCurves) -> list[Series]:
    lines = []
    for key, estimates in curves.lines.items():
        if any(estimate.value is not None for estimate in estimates):
            lines.append(_line(NAMES[key], curves.horizons, estimates))
    return lines


def _line(label: str, horizons: tuple[int, ...], estimates: tuple[Estimate, ...]) -> Series:
    values, lows, highs = (
        [_number(getattr(estimate, bound)) for estimate in estimates] for bound in ("value", "low", "high")
    )
    has_interval = any(estimate.low is not None for estimate in estimates)
    return Series(label, horizons, values, lows if has_interval else None, highs if has_interval else None)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
