"""`report`: the whole chain and its evaluation → one self-contained HTML page, and its figures as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lapa_ray.core.artefact import METRICS, Artefact, Draft, Kind, check_same_parent, open_artefact
from lapa_ray.core.config import Config, PlainStageConfig
from lapa_ray.core.errors import LapaError
from lapa_ray.core.files import write_json, write_text
from lapa_ray.core.metric_log import read_metrics
from lapa_ray.evaluation.code_exhibits import CodeExhibits
from lapa_ray.evaluation.comparison_page import ShownComparison
from lapa_ray.evaluation.data_quality import Measured
from lapa_ray.evaluation.exhibits import Exhibits
from lapa_ray.evaluation.figures import Evaluation
from lapa_ray.evaluation.page import Change, Source, render_page
from lapa_ray.evaluation.sweep_page import shown_sweep
from lapa_ray.evaluation.sweep_results import SweepResults, sheets_in

HTML, FIGURES, PICTURES, CODES = "report.html", "figures.json", "pictures.npz", "codes.npz"
MAKERS: dict[Kind, str] = {
    "agent": "train_dqn",
    "frames": "record",
    "vqvae": "train_vqvae",
    "codes": "extract",
    "world_model": "train_world_model",
    "evaluation": "evaluate",
    "data_quality": "measure_data",
    "comparison": "compare_replay",
    "sweep": "sweep",
}
"""Kind of artefact to the stage that makes it, in the order of the chain."""
TRAINED: tuple[Kind, ...] = ("agent", "vqvae", "world_model")
NOT_SHOWN = {"out", "resume", *MAKERS}
MEASURED_BESIDE: tuple[Kind, ...] = ("evaluation", "data_quality", "comparison", "sweep")
"""What the evaluation is not made of."""
SAME_GAME: tuple[Kind, ...] = ("comparison", "sweep")
"""Of these, what need not be of these frames, but of their game."""


class ReportConfig(PlainStageConfig):
    """Tells what was run and how well it did, on one page."""

    frames: Path
    """Frames artefact that was measured on."""
    vqvae: Path
    """Vqvae artefact."""
    codes: Path
    """Codes artefact."""
    world_model: Path
    """World_model artefact."""
    evaluation: Path
    """Evaluation artefact of the others."""
    agent: Path | None = None
    """Agent artefact that recorded the frames; needed if the evaluation had one."""
    data_quality: Path | None = None
    """Data_quality artefact of these frames, alone or beside others; shown in a section of its own."""
    comparison: Path | None = None
    """Comparison artefact of the same game; its table and its curves are shown in a section of their own."""
    sweep: Path | None = None
    """Sweep artefact of the same game; its tables and charts are shown in a section of their own."""


CONFIG = ReportConfig


def run(config: ReportConfig) -> Artefact:
    """Write the report artefact: report.html and figures.json."""
    parents = _open_parents(config)
    evaluation, exhibits = _read_evaluation(config.evaluation)
    codes = CodeExhibits.load(config.evaluation / CODES)
    data = None if config.data_quality is None else Measured.load(config.data_quality)
    compared = None if config.comparison is None else ShownComparison.load(config.comparison)
    swept = None if config.sweep is None else shown_sweep(SweepResults.load(config.sweep), sheets_in(config.sweep))
    sources = [_source(kind, artefact) for kind, artefact in parents.items()]
    draft = Draft.begin(config, "report", {str(kind): artefact for kind, artefact in parents.items()})
    made = f"{datetime.now(UTC):%-d %B %Y, %H:%M} UTC"
    page = render_page(sources, evaluation, exhibits, made, data, compared, codes, swept)
    write_text(draft.path / HTML, page)
    write_json(draft.path / FIGURES, evaluation.model_dump(mode="json"))
    return draft.finish(evaluation.manifest_figures())


def _open_parents(config: ReportConfig) -> dict[Kind, Artefact]:
    """All artefacts by kind, in the order of the chain. Raises `LapaError` unless the evaluation is of just these."""
    paths = {kind: getattr(config, kind) for kind in MAKERS}
    parents = {kind: open_artefact(path, kind) for kind, path in paths.items() if path is not None}
    evaluation = parents["evaluation"]
    for kind, artefact in parents.items():
        if kind not in MEASURED_BESIDE:
            check_same_parent(evaluation, kind, artefact)
    if "data_quality" in parents:
        _check_measures(parents["data_quality"], parents["frames"])
    for kind in SAME_GAME:
        if kind in parents:
            _check_game(kind, parents[kind], parents["frames"])
    if "agent" in evaluation.manifest.parents and "agent" not in parents:
        hint = evaluation.manifest.parents["agent"].path
        raise LapaError(f"--agent: missing, but {config.evaluation} measured an agent; give it too (it was {hint}).")
    return parents


def _check_measures(data_quality: Artefact, frames: Artefact) -> None:
    """Raise `LapaError` unless `frames` are among the datasets of `data_quality`."""
    measured = data_quality.manifest.parents.values()
    if frames.identity not in {parent.identity for parent in measured}:
        raise LapaError(
            f"--data_quality {data_quality.path}: tells of {', '.join(parent.path for parent in measured)}, not of the "
            f"frames in {frames.path}; run measure-data on these."
        )


def _check_game(kind: Kind, beside: Artefact, frames: Artefact) -> None:
    """Raise `LapaError` for a comparison or a sweep of another game."""
    games = [artefact.manifest.figures.get("game") for artefact in (beside, frames)]
    if games[0] is None:
        raise LapaError(f"--{kind} {beside.path}: of an older version, which did not keep its game; make it again.")
    if games[0] != games[1]:
        raise LapaError(f"--{kind} {beside.path}: is of {games[0]}, but the frames are of {games[1]}; leave it out.")


def _read_evaluation(folder: Path) -> tuple[Evaluation, Exhibits]:
    path = folder / FIGURES
    try:
        evaluation = Evaluation.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
        raise LapaError(f"{path}: damaged ({reason}); make the evaluation again.") from error
    return evaluation, Exhibits.load(folder / PICTURES)


def _source(kind: Kind, artefact: Artefact) -> Source:
    stage = _maker(artefact)
    model = import_module(f"lapa_ray.stages.{stage}").CONFIG
    return Source(
        role=kind,
        command=stage.replace("_", "-"),
        path=str(artefact.path),
        manifest=artefact.manifest,
        changes=config_changes(model, artefact.manifest.config),
        metrics=read_metrics(artefact.path / METRICS) if kind in TRAINED else (),
    )


def _maker(artefact: Artefact) -> str:
    """The stage that made it: frames may be the gameplay that train-dqn saw."""
    kind = artefact.manifest.kind
    return "train_dqn" if kind == "frames" and "learner" in artefact.manifest.config else MAKERS[kind]


def config_changes(model: type[Config], values: dict[str, Any]) -> tuple[Change, ...]:
    """What of the resolved config `values` differs from the defaults of `model`; what has no default is left out."""
    defaults = {
        name: field.get_default(call_default_factory=True)
        for name, field in model.model_fields.items()
        if not field.is_required() and name not in NOT_SHOWN
    }
    flat = _flatten({name: _as_json(value) for name, value in defaults.items()})
    ours = _flatten(values)
    return tuple(
        Change(key, _text(ours[key]), _text(flat[key])) for key in flat if key in ours and ours[key] != flat[key]
    )


def _as_json(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, Config) else value


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,}" if isinstance(value, int) else "none" if value is None else str(value)
