"""`inspect`: any artefact directory → what it is, whether it is whole, size, parents and figures; frames in detail.

Writes nothing into the directory.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lapa_ray.core.artefact import MANIFEST, RUN, Artefact, Manifest, Run, open_artefact, read_run
from lapa_ray.core.config import Config
from lapa_ray.core.errors import LapaError
from lapa_ray.core.manifest import Parent
from lapa_ray.core.progress import Progress
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.shards import shard_paths
from lapa_ray.dataset.summary import frame_figures
from lapa_ray.dataset.verification import verify
from lapa_ray.evaluation.frame_overview import episode_sheet, overview
from lapa_ray.evaluation.images import write_png


class InspectConfig(Config):
    """What to look at."""

    path: Path
    """Artefact directory; `lapa-ray inspect DIR` does as well."""
    verify: bool = False
    """Of frames: read every row and page of every shard."""
    contact_sheet: Path | None = None
    """Of frames: PNG file to write, with pictures from the least to the best episode, a row each."""


CONFIG = InspectConfig


def run(config: InspectConfig) -> None:
    """Print what `config.path` holds. Raises `LapaError` if it holds no artefact or a damaged one."""
    path = config.path
    if not path.is_dir():
        raise LapaError(f"{path}: no such directory.")
    if (path / MANIFEST).exists():
        artefact = open_artefact(path)
        _check_options(config, artefact.manifest)
        _print_whole(artefact)
        if artefact.manifest.kind == "frames":
            _print_frames(FrameDataset.open(path), config)
    elif (path / RUN).exists():
        unfinished = read_run(path)
        _check_options(config, unfinished)
        _print_unfinished(path, unfinished)
    else:
        raise LapaError(f"{path}: holds no artefact ({MANIFEST} and {RUN} are missing).{_artefacts_inside(path)}")


def _check_options(config: InspectConfig, run: Run) -> None:
    """Raise `LapaError` for what only whole frames can be asked."""
    sheet = config.contact_sheet
    whole_frames = run.kind == "frames" and isinstance(run, Manifest)
    for option, given in (("--verify", config.verify), ("--contact_sheet", sheet)):
        if given and not whole_frames:
            state = "" if isinstance(run, Manifest) else " unfinished"
            raise LapaError(f"{option}: is for whole frames; {config.path} holds{state} {run.kind}.")
    if sheet is None:
        return
    if sheet.suffix.lower() != ".png":
        raise LapaError(f"--contact_sheet {sheet}: is to be a PNG file; give a name that ends in .png.")
    if sheet.resolve().is_relative_to(config.path.resolve()):
        raise LapaError(f"--contact_sheet {sheet}: lies in the artefact, which is not to be altered; choose another.")


def _print_frames(dataset: FrameDataset, config: InspectConfig) -> None:
    console = Console()
    for line in overview(dataset):
        console.print(line, highlight=False, markup=False)
    if config.contact_sheet is not None:
        write_png(config.contact_sheet, episode_sheet(dataset))
        console.print(f"contact sheet: {config.contact_sheet}", highlight=False, markup=False, soft_wrap=True)
    if config.verify:
        _verify(dataset)


def _verify(dataset: FrameDataset) -> None:
    num_frames = sum(dataset.rows(episode_id).num_frames for episode_id in dataset.episode_ids)
    with Progress("inspect: verify", num_frames, "rows") as progress:
        report = verify(dataset, progress.advance)
    if len(report.faults) > 1:
        print("\n".join(report.faults), file=sys.stderr)
        raise LapaError(f"{dataset.name}: {len(report.faults)} faults, listed above; restore it, or record it again.")
    if report.faults:
        raise LapaError(report.faults[0])
    checked = "with all checksums" if not report.num_unchecked else "as far as that shows without all checksums"
    print(f"verified: every row of {report.num_shards} shards ({report.num_frames:,}), {checked}; no fault")
    if report.num_unchecked:
        print(f"{report.num_unchecked} row groups hold screens without a checksum: another program wrote them")


def _print_whole(artefact: Artefact) -> None:
    manifest = artefact.manifest
    table = _table(artefact.path, manifest, "whole")
    table.add_row("made in", f"{manifest.seconds:,.1f} s")
    _add_parents(table, artefact.path, manifest)
    for name, value in manifest.figures.items():
        table.add_row(name, _figure(value))
    Console().print(table)


def _print_unfinished(path: Path, run: Run) -> None:
    table = _table(path, run, "unfinished: continue it with --resume")
    _add_parents(table, path, run)
    if run.kind == "frames" and shard_paths(path):
        for name, value in frame_figures(path).items():
            table.add_row(f"{name} so far", _figure(value))
    Console().print(table)


def _table(path: Path, run: Run, status: str) -> Table:
    table = Table(show_header=False, title=str(path), title_justify="left", title_style="bold")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    files = [file for file in path.rglob("*") if file.is_file()]
    table.add_row("kind", f"{run.kind} (schema version {run.schema_version})")
    table.add_row("status", status)
    table.add_row("identity", run.identity)
    table.add_row("size", f"{sum(f.stat().st_size for f in files) / 1e6:,.2f} MB in {len(files)} files")
    table.add_row("started", run.started)
    table.add_row("seed", str(run.seed))
    table.add_row("versions", ", ".join(f"{name} {version}" for name, version in run.versions.items()))
    return table


def _add_parents(table: Table, folder: Path, run: Run) -> None:
    for role, parent in run.parents.items():
        place = _place_of(parent, folder)
        state = "" if place is not None else ", not found"
        table.add_row(f"parent {role}", f"{place or parent.path} ({parent.kind} {parent.identity}{state})")


def _place_of(parent: Parent, folder: Path) -> Path | None:
    """Where `parent` is: where it lay, or beside `folder`, where it is when a whole chain was moved or copied."""
    for place in (Path(parent.path), folder.resolve().parent / Path(parent.path).name):
        try:
            if open_artefact(place).identity == parent.identity:
                return place
        except LapaError:
            continue
    return None


def _figure(value: float | int | str | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value


def _artefacts_inside(path: Path) -> str:
    found = sorted(run.parent.name for run in path.glob(f"*/{RUN}"))
    return f"\nArtefacts inside it: {', '.join(found)}." if found else ""
