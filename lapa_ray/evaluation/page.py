"""The report page: manifests, training logs, figures and exhibits → one self-contained HTML document.

Everything on the page comes from what it is given; what is missing is said to be missing. Knows no stage and no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from lapa_ray.core.artefact import Manifest
from lapa_ray.evaluation.charts import dot_chart, usage_chart
from lapa_ray.evaluation.code_exhibits import CodeExhibits
from lapa_ray.evaluation.codes import entropy_bits
from lapa_ray.evaluation.comparison_page import ShownComparison
from lapa_ray.evaluation.data_quality import Measured
from lapa_ray.evaluation.data_quality_page import shown_parts
from lapa_ray.evaluation.exhibits import PAIR_RULE, STRIP_RULE, Exhibits
from lapa_ray.evaluation.figures import (
    BASELINES,
    REFERENCES,
    Evaluation,
    Figure,
    describe_verdict,
)
from lapa_ray.evaluation.horizon_charts import horizon_charts
from lapa_ray.evaluation.images import HEAT_SCALE_LEVELS, code_matrix, error_heat, png_data_uri
from lapa_ray.evaluation.latent_page import shown_codes
from lapa_ray.evaluation.remarks import NOT_SUMMARISED, limits, mixed_versions, summary_sentence
from lapa_ray.evaluation.templates import page_template
from lapa_ray.evaluation.training_charts import Rows, training_charts

HEADLINES = (
    "return_mean",
    "reconstruction_psnr_db",
    "reconstruction_changed_psnr_db",
    "player_recall_2px",
    "codes_perplexity",
    "delta_psnr_4_player_db",
    "world_model_teacher_forced_accuracy",
    "world_model_teacher_forced_changed_accuracy",
)
MARKS = {"beats": "▲", "ahead": "△", "overlaps": "△", "equal": "=", "below": "▼", "none": "–"}
GRID_COLUMNS = 5


@dataclass(frozen=True)
class Change:
    """A config value that differs from its default."""

    key: str
    value: str
    default: str


@dataclass(frozen=True)
class Source:
    """One artefact of the chain, as the page tells of it. `role` as in the parents of the report."""

    role: str
    command: str
    path: str
    manifest: Manifest
    changes: tuple[Change, ...]
    """What of its config differs from the defaults; empty if nothing does."""
    metrics: Rows = ()
    """Rows of its training log; empty where it has none."""


def render_page(
    sources: list[Source],
    evaluation: Evaluation,
    exhibits: Exhibits,
    made: str,
    data: Measured | None = None,
    compared: ShownComparison | None = None,
    codes: CodeExhibits | None = None,
    swept: dict[str, Any] | None = None,
) -> str:
    """The report as HTML text.

    `sources` in the order of the chain; `made`: when, in words; `data`: of its frames; `compared`: replays on its game;
    `codes`: what its codes answer to; `swept`: settings of the VQ-VAE on its game, as `shown_sweep` makes them.
    """
    html = page_template("report.html.j2").render(
        names=BASELINES | REFERENCES,
        marks=MARKS,
        verdict_words=describe_verdict,
        made=made,
        sources=sources,
        evaluation=evaluation,
        summary=_summary(evaluation),
        training={source.role: _training(source) for source in sources if source.metrics},
        returns=_returns_chart(exhibits, evaluation),
        pairs=_pairs(exhibits),
        pair_rule=PAIR_RULE,
        strip=_strip(exhibits),
        strip_rule=STRIP_RULE,
        heat_scale=int(HEAT_SCALE_LEVELS),
        codebook=_codebook(exhibits, GRID_COLUMNS if codes is None else int(codes.grid[1])),
        sees_frame_t=_sees_frame_t(sources),
        mixed_versions=mixed_versions([source.manifest for source in sources]),
        limits=limits(evaluation),
        data=None if data is None else shown_parts(data),
        compared=compared,
        swept=swept,
        coded=shown_codes(evaluation, codes),
        horizons=[(title, Markup(svg)) for title, svg in horizon_charts(evaluation)],
    )
    return html.strip() + "\n"


def _summary(evaluation: Evaluation) -> dict[str, Any]:
    shown = [group for group in evaluation.groups if group.name not in NOT_SUMMARISED]
    figures = [figure for group in shown for figure in group.figures]
    headlines = [figure for figure in figures if _is_headline(figure)]
    return {"headlines": headlines, "sentence": summary_sentence(figures)}


def _is_headline(figure: Figure) -> bool:
    """The few figures of the summary; those by horizon are named after the horizon that was measured."""
    name = figure.name
    far = name.startswith(("world_model_open_loop_h", "imagined_h")) and not name.startswith("imagined_h1_")
    return name in HEADLINES or (far and not name.endswith(("_changed_accuracy", "_changed_psnr_db")))


def _training(source: Source) -> dict[str, Any]:
    suffix, x_label = "", "updates"
    if source.role == "agent":
        replay = "prioritised replay (PER)" if source.manifest.config.get("use_per") else "uniform replay"
        suffix, x_label = f", {replay}", "agent steps"
    charts, missing = training_charts(source.role, source.metrics, x_label, suffix)
    shown = [(chart.title, Markup(chart.svg)) for chart in charts]
    return {"charts": shown, "missing": missing, "suffix": suffix}


def _returns_chart(exhibits: Exhibits, evaluation: Evaluation) -> Markup | None:
    groups = [("recorded", exhibits.recorded_returns), ("random play", exhibits.random_returns)]
    measured = [(name, values) for name, values in groups if len(values)]
    if evaluation.figure("return_mean") is None or not measured:
        return None
    return Markup(dot_chart(measured, title="Score of each episode", x_label="score of an episode, points"))


def _pairs(exhibits: Exhibits) -> list[dict[str, Any]]:
    heat = error_heat(exhibits.pair_reconstructed, exhibits.pair_after)
    return [
        {
            "name": str(exhibits.pair_names[i]),
            "episode": int(exhibits.pair_episodes[i]),
            "step": int(exhibits.pair_steps[i]),
            "changed": int(exhibits.pair_changed_pixels[i]),
            "pictures": [
                ("frame t", png_data_uri(exhibits.pair_before[i])),
                ("true frame t+1", png_data_uri(exhibits.pair_after[i])),
                ("reconstructed", png_data_uri(exhibits.pair_reconstructed[i])),
                ("error", png_data_uri(heat[i])),
            ],
        }
        for i in range(len(exhibits.pair_names))
    ]


def _strip(exhibits: Exhibits) -> dict[str, Any] | None:
    if len(exhibits.strip_start) == 0:
        return None
    difference = error_heat(exhibits.strip_imagined, exhibits.strip_true)
    rows = (("true", exhibits.strip_true), ("imagined", exhibits.strip_imagined), ("difference", difference))
    return {
        "episode": int(exhibits.strip_start[0]),
        "step": int(exhibits.strip_start[1]),
        "seen": png_data_uri(exhibits.strip_seen[0]),
        "horizons": [int(h) for h in exhibits.strip_horizons],
        "actions": [str(action) for action in exhibits.strip_actions],
        "rows": [(name, [png_data_uri(picture) for picture in pictures]) for name, pictures in rows],
    }


def _sees_frame_t(sources: list[Source]) -> bool:
    """Whether the decoder does."""
    models = [source.manifest.config.get("model", {}) for source in sources if source.role == "vqvae"]
    return any(model.get("conditioning", "none") != "none" for model in models)


def _codebook(exhibits: Exhibits, columns: int) -> dict[str, Any]:
    counts = exhibits.code_counts
    entropy = entropy_bits(counts)
    greatest = max(float(entropy.max()), 1e-9)
    cells = [
        {"bits": float(bits), "share": float(bits) / greatest, "code": int(code)}
        for bits, code in zip(entropy, counts.argmax(axis=1), strict=True)
    ]
    usage = usage_chart(
        counts.sum(axis=0),
        title="Use of the codebook",
        x_label="codes, most frequent first",
        y_label="share of all tokens",
    )
    return {
        "usage": Markup(usage),
        "rows": [cells[i : i + columns] for i in range(0, len(cells), columns)],
        "matrix": png_data_uri(code_matrix(counts)),
        "size": counts.shape[1],
        "positions": counts.shape[0],
    }
