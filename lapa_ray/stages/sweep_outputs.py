"""What a sweep leaves: its results in; a page, a table, the best setting as a file and lines on the terminal out.

Reads the table again for the failures in it. Knows not how trainings run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml  # type: ignore[import-untyped]
from rich.console import Console
from rich.table import Table

from lapa_ray.core.artefact import Draft
from lapa_ray.core.files import replacing, write_text
from lapa_ray.evaluation.sweep_page import render_sweep
from lapa_ray.evaluation.sweep_results import (
    Constraint,
    Setting,
    SweepResults,
    SweepTrial,
    none_is_best,
    sheets_in,
    significant,
)
from lapa_ray.stages.sweep_config import SweepConfig
from lapa_ray.stages.sweep_plan import apply_setting, slug
from lapa_ray.stages.vqvae_config import VqvaeTraining

HTML, TABLE, BEST_CONFIG = "sweep.html", "trials.parquet", "best.yaml"


def write_outputs(config: SweepConfig, draft: Draft, results: SweepResults) -> None:
    """Write all but the manifest."""
    write_table(draft.path / TABLE, results.trials)
    best_path = draft.path / BEST_CONFIG
    best_path.unlink(missing_ok=True)
    if results.best is not None:
        write_text(best_path, best_yaml(config, results.best))
    results.save(draft.path)
    made = f"{datetime.now(UTC):%-d %B %Y, %H:%M} UTC"
    write_text(draft.path / HTML, render_sweep(results, draft.run.config, made, sheets_in(draft.path)))


def best_yaml(config: SweepConfig, best: Setting) -> str:
    """What `train-vqvae --config` takes: what of the best setting differs from the defaults."""
    fields: dict[str, Any] = config.train.model_dump(mode="json")
    apply_setting(config, best.values, fields)
    differs = _difference(fields, VqvaeTraining().model_dump(mode="json"))
    return "# The best setting of a sweep, as `lapa-ray train-vqvae --config` takes it.\n" + yaml.safe_dump(
        differs, sort_keys=False
    )


def _difference(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in fields.items():
        default = defaults.get(name)
        if isinstance(value, dict) and isinstance(default, dict):
            if inner := _difference(value, default):
                found[name] = inner
        elif value != default:
            found[name] = value
    return found


def write_table(path: Path, trials: Sequence[SweepTrial]) -> None:
    """One row a training: name, each swept option (as JSON-like text), seed, state, failure, each figure."""
    names = sorted({name for trial in trials for name in trial.figures})
    columns: dict[str, pa.Array] = {
        "trial": pa.array([trial.name for trial in trials], pa.string()),
        **{
            f"train.{option}" if option in names else option: pa.array(  # loss is a group of options, and a figure
                [str(trial.setting[option]) for trial in trials], pa.string()
            )
            for option in trials[0].setting
        },
        "seed": pa.array([trial.seed for trial in trials], pa.int64()),
        "state": pa.array([trial.state for trial in trials], pa.string()),
        "failure": pa.array([trial.failure for trial in trials], pa.string()),
        **{name: pa.array([trial.figures.get(name) for trial in trials], pa.float64()) for name in names},
    }
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


def known_failures(folder: Path) -> dict[str, str]:
    """Name to reason of the trials that failed when `folder` was written, if it was."""
    if not (folder / TABLE).exists():
        return {}
    rows = pq.read_table(folder / TABLE, columns=["trial", "failure"]).to_pylist()
    return {row["trial"]: row["failure"] for row in rows if row["failure"]}


def manifest_figures(results: SweepResults) -> dict[str, float | int | str | None]:
    """What the manifest says of them: counts, the best setting and its objective."""
    states, best = [trial.state for trial in results.trials], results.best
    return {
        "num_settings": len(results.settings),
        "num_trials": len(results.trials),
        "num_ended_early": states.count("ended early"),
        "num_failed": states.count("failed"),
        "best": None if best is None else slug(best.values),
        f"best_{results.objective}": None if best is None else best.means[results.objective],
    }


def print_outcome(results: SweepResults, folder: Path) -> None:
    """A row a setting, the best and how to train with it, and where the page is."""
    shown = [results.objective, *(Constraint.parse(text).figure for text in results.constraints)]
    table = Table("setting", *shown, "trainings")
    for setting in results.settings:
        cells = [significant(setting.means[name], 4) if name in setting.means else "–" for name in shown]
        table.add_row(slug(setting.values), *cells, f"{setting.num_whole} of {setting.num_trials} whole")
    Console().print(table)
    if results.best is None:
        print(none_is_best(len(results.settings), results.objective, results.constraints))
    else:
        print(
            f"Best: {slug(results.best.values)}; train with it:\nlapa-ray train-vqvae --config {folder / BEST_CONFIG}"
        )
    print(f"All of it: {(folder / HTML).resolve()}", flush=True)
