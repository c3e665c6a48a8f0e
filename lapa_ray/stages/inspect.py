"""`inspect`: any artefact directory → what it is, whether it is whole, size, parents and figures. Writes nothing."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from lapa_ray.core.artefact import MANIFEST, RUN, Artefact, Run, open_artefact, read_run
from lapa_ray.core.config import Config
from lapa_ray.core.errors import LapaError


class InspectConfig(Config):
    """What to look at."""

    path: Path
    """Artefact directory; `lapa-ray inspect DIR` does as well."""


CONFIG = InspectConfig


def run(config: InspectConfig) -> None:
    """Print what `config.path` holds. Raises `LapaError` if it holds no artefact or a damaged one."""
    path = config.path
    if not path.is_dir():
        raise LapaError(f"{path}: no such directory.")
    if (path / MANIFEST).exists():
        _print_whole(open_artefact(path))
    elif (path / RUN).exists():
        _print_unfinished(path, read_run(path))
    else:
        raise LapaError(f"{path}: holds no artefact ({MANIFEST} and {RUN} are missing).{_artefacts_inside(path)}")


def _print_whole(artefact: Artefact) -> None:
    manifest = artefact.manifest
    table = _table(artefact.path, manifest, "whole")
    table.add_row("made in", f"{manifest.seconds:,.1f} s")
    _add_parents(table, manifest)
    for name, value in manifest.figures.items():
        table.add_row(name, _figure(value))
    Console().print(table)


def _print_unfinished(path: Path, run: Run) -> None:
    table = _table(path, run, "unfinished: continue it with --resume")
    _add_parents(table, run)
    Console().print(table)


def _table(path: Path, run: Run, status: str) -> Table:
    table = Table(show_header=False, title=str(path), title_justify="left", title_style="bold")
    files = [file for file in path.rglob("*") if file.is_file()]
    table.add_row("kind", f"{run.kind} (schema version {run.schema_version})")
    table.add_row("status", status)
    table.add_row("identity", run.identity)
    table.add_row("size", f"{sum(f.stat().st_size for f in files) / 1e6:,.2f} MB in {len(files)} files")
    table.add_row("started", run.started)
    table.add_row("seed", str(run.seed))
    table.add_row("versions", ", ".join(f"{name} {version}" for name, version in run.versions.items()))
    return table


def _add_parents(table: Table, run: Run) -> None:
    for role, parent in run.parents.items():
        table.add_row(f"parent {role}", f"{parent.path} ({parent.kind} {parent.identity}{_parent_state(parent.path)})")


def _parent_state(path: str) -> str:
    return "" if (Path(path) / MANIFEST).exists() else ", no longer there"


def _figure(value: float | int | str | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value


def _artefacts_inside(path: Path) -> str:
    found = sorted(run.parent.name for run in path.glob(f"*/{RUN}"))
    return f"\nArtefacts inside it: {', '.join(found)}." if found else ""
