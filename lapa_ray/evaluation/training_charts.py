"""Training charts: the rows of a metric log → charts of one training run. Tells which metrics the log does not have.

Knows the names under which the stages log, and nothing else of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lapa_ray.evaluation.charts import Series, line_chart

Rows = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class ChartSpec:
    """One chart: `lines` are (name in the metric log, label)."""

    title: str
    y_label: str
    lines: tuple[tuple[str, str], ...]
    percent: bool = False


@dataclass(frozen=True)
class Chart:
    """SVG text with its caption."""

    title: str
    svg: str


SPECS: dict[str, tuple[ChartSpec, ...]] = {
    "agent": (
        ChartSpec("Return of training episodes", "score, points", (("return", "return"),)),
        ChartSpec("Q values", "Q value", (("mean_q", "mean"), ("max_q", "max"))),
        ChartSpec("Variance of Q values", "variance of Q", (("variance_q", "variance"),)),
        ChartSpec("Loss", "Huber loss", (("loss", "loss"),)),
        ChartSpec("TD error", "mean absolute TD error", (("td_error", "TD error"),)),
        ChartSpec("Gradient norm before clipping", "gradient norm", (("gradient_norm", "gradient norm"),)),
        ChartSpec("ε and β", "share of random actions; PER exponent", (("epsilon", "ε"), ("beta", "β"))),
        ChartSpec("Episode length", "agent steps", (("episode_length", "episode length"),)),
        ChartSpec("Speed", "steps/s and updates/s", (("steps_per_s", "steps/s"), ("updates_per_s", "updates/s"))),
    ),
    "vqvae": (
        ChartSpec("Loss", "loss", (("train_loss", "training"), ("val_loss", "validation split"))),
        ChartSpec("Perplexity", "perplexity, codes", (("val_perplexity", "validation split"),)),
        ChartSpec("PSNR", "PSNR, dB", (("val_psnr_db", "VQ-VAE"), ("val_copy_last_psnr_db", "copy-last frame"))),
        ChartSpec(
            "PSNR on changed pixels",
            "PSNR, changed pixels, dB",
            (("val_changed_psnr_db", "VQ-VAE"), ("val_copy_last_changed_psnr_db", "copy-last frame")),
        ),
        ChartSpec("SSIM", "SSIM", (("val_ssim", "VQ-VAE"), ("val_copy_last_ssim", "copy-last frame"))),
        ChartSpec("Quantiser's loss", "loss", (("quantizer_loss", "training"),)),
    ),
    "world_model": (
        ChartSpec("Loss", "cross-entropy, nats", (("train_loss", "training"), ("val_loss", "validation split"))),
        ChartSpec(
            "Accuracy",
            "token accuracy",
            (
                ("val_accuracy", "validation split"),
                ("accuracy", "training"),
                ("val_copy_last_accuracy", "copy-last codes"),
                ("val_mode_accuracy", "most frequent code"),
            ),
            percent=True,
        ),
    ),
}


def training_charts(role: str, rows: Rows, x_label: str, suffix: str = "") -> tuple[list[Chart], list[str]]:
    """The charts of the training run of `role`, and the titles of those that its log has nothing for.

    `suffix` is added to what the charts tell those who cannot see them, as in "Loss, uniform replay".
    """
    charts, missing = [], []
    for spec in SPECS[role]:
        lines = [series for name, label in spec.lines if (series := _series(rows, name, label)) is not None]
        if not lines:
            missing.append(spec.title)
            continue
        svg = line_chart(
            lines,
            title=f"{spec.title}{suffix}",
            x_label=x_label,
            y_label=spec.y_label,
            percent=spec.percent,
            from_zero=True,
        )
        charts.append(Chart(spec.title, svg))
    return charts, missing


def _series(rows: Rows, name: str, label: str) -> Series | None:
    points: dict[int, float] = {}
    for row in rows:
        if row.get(name) is not None:
            points.setdefault(row["step"], row[name])  # updates after the last step would draw an upright line
    return Series(label, tuple(points), tuple(points.values())) if points else None
