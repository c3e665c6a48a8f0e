"""`measure-data`: frames → data_quality. How varied the play of datasets is, side by side, by what RAM tells."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import field_validator
from rich.console import Console
from rich.table import Table

from lapa_ray.core.artefact import Artefact, Draft
from lapa_ray.core.config import PlainStageConfig
from lapa_ray.core.errors import LapaError, StoppedError
from lapa_ray.core.files import write_json, write_text
from lapa_ray.core.pictures import Composite
from lapa_ray.core.progress import Progress
from lapa_ray.core.stop import STOPPING, StopRequest, stop_on_signal
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.evaluation.data_quality import FIGURES, PICTURES, DataQuality, save_exhibits
from lapa_ray.evaluation.data_quality_datasets import Tallied, measured
from lapa_ray.evaluation.data_quality_page import describe, not_measured, render_data_page

HTML = "data_quality.html"


class MeasureDataConfig(PlainStageConfig):
    """Tells how varied the play in frame datasets is, side by side."""

    frames: Path | tuple[Path, ...]
    """Frames artefacts to compare; `lapa-ray measure-data A B --out DIR` does as well."""
    composite: Composite = "max4"
    """Pictures that are counted: of greatest luminance over the last 4 or 2 frames of a step, or the last one."""

    @field_validator("frames")
    @classmethod
    def _any(cls, frames: Path | tuple[Path, ...]) -> Path | tuple[Path, ...]:
        if frames == ():
            raise ValueError("should name one frames artefact or more; got none")
        return frames

    @property
    def paths(self) -> tuple[Path, ...]:
        """The frames artefacts."""
        return self.frames if isinstance(self.frames, tuple) else (self.frames,)


CONFIG = MeasureDataConfig


def run(config: MeasureDataConfig) -> Artefact:
    """Measure, print a table, and write the data_quality artefact: figures.json, pictures.npz and data_quality.html."""
    datasets = _open(config.paths)
    draft = Draft.begin(config, "data_quality", {role: dataset.artefact for role, dataset in datasets.items()})
    with stop_on_signal(said=STOPPING) as stop:
        tallied = [_tally(role, data, config.composite, stop) for role, data in datasets.items()]
    found = measured(tallied, config.composite, config.seed)
    save_exhibits(draft.path / PICTURES, found.exhibits)
    write_text(draft.path / HTML, render_data_page(found, f"{datetime.now(UTC):%-d %B %Y, %H:%M} UTC"))
    write_json(draft.path / FIGURES, found.quality.model_dump(mode="json"))
    artefact = draft.finish(found.quality.manifest_figures())
    _print(found.quality, draft.path / HTML)
    return artefact


def _open(paths: Sequence[Path]) -> dict[str, FrameDataset]:
    """The datasets by role: `frames` if there is one, else `frames_0`, `frames_1` and so on.

    Raises `LapaError` if one is no frames artefact or is given twice.
    """
    datasets: list[FrameDataset] = []
    for path in paths:
        dataset = FrameDataset.open(path)
        for other in datasets:
            if other.artefact.identity == dataset.artefact.identity:
                raise LapaError(f"--frames: {path} and {other.name} are the same dataset; give it once.")
        datasets.append(dataset)
    return {"frames" if len(paths) == 1 else f"frames_{number}": data for number, data in enumerate(datasets)}


def _tally(role: str, dataset: FrameDataset, composite: Composite, stop: StopRequest) -> Tallied:
    with Progress(f"measure-data: {dataset.artefact.path.name}", dataset.num_steps_total, "steps") as progress:

        def tick(num_steps: int) -> None:
            progress.advance(num_steps)
            if stop:
                raise StoppedError("stopped; nothing was measured to the end. Start it again with --resume.")

        return Tallied.of(role, dataset, composite, tick)


def _print(quality: DataQuality, page: Path) -> None:
    table = Table("", *(dataset.name for dataset in quality.datasets))
    for label, cells in describe(quality):
        table.add_row(label, *cells)
    Console().print(table)
    lines = ["In brackets the 95 % interval over episodes, where there are at least three.", *not_measured(quality)]
    print("\n".join([*lines, "How all of it is counted, with maps and charts:", str(page.resolve())]), flush=True)
