"""Manifests: what is known of an artefact, half-made or whole, and how it is read back.

`run.json` stands in its directory from the first second, `manifest.json` when it is whole.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import ValidationError

from lapa_ray.core.config import Config
from lapa_ray.core.errors import LapaError

if TYPE_CHECKING:
    from lapa_ray.core.locations import Location

Kind = Literal[
    "agent",
    "frames",
    "vqvae",
    "codes",
    "world_model",
    "evaluation",
    "data_quality",
    "comparison",
    "latents",
    "videos",
    "control_map",
    "sweep",
    "report",
    "export",
]
SCHEMA_VERSIONS: dict[str, int] = {
    "agent": 1,
    "frames": 1,
    "vqvae": 2,
    "codes": 1,
    "world_model": 1,
    "evaluation": 1,
    "data_quality": 1,
    "comparison": 1,
    "latents": 1,
    "videos": 1,
    "control_map": 1,
    "sweep": 1,
    "report": 1,
    "export": 1,
}
MANIFEST = "manifest.json"
RUN = "run.json"


class Parent(Config):
    """One artefact that another was made from. The path is a hint; the identity is what counts."""

    kind: Kind
    """Kind of the parent."""
    path: str
    """Where it lay when it was read."""
    identity: str
    """Its identity."""


class Run(Config):
    """What is known of an artefact from the first second; `run.json`."""

    kind: Kind
    """Kind of artefact."""
    schema_version: int
    """Version of the payload's layout."""
    identity: str
    """Hash of kind, schema version, config without paths, resources and logging, and the parents' identities."""
    config: dict[str, Any]
    """The resolved config of the stage."""
    identity_config: dict[str, Any]
    """The part of the config that the identity is made of."""
    seed: int
    """Seed of the stage."""
    versions: dict[str, str]
    """Versions of the packages that made it."""
    parents: dict[str, Parent]
    """Role to artefact that it was made from."""
    started: str
    """UTC time of the first start, ISO 8601."""


class Manifest(Run):
    """What is known of a whole artefact; `manifest.json`."""

    status: Literal["complete"] = "complete"
    """Only complete artefacts have a manifest."""
    figures: dict[str, float | int | str | None]
    """Figures measured while it was made; null where there was nothing to measure."""
    seconds: float
    """Wall time of the stage over all its starts, s."""


AnyRun = TypeVar("AnyRun", bound=Run)


@dataclass(frozen=True)
class Artefact:
    """A whole artefact on disk, or at `uri` on another filesystem, of which `path` is the path there."""

    path: Path
    manifest: Manifest
    uri: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.uri is None else self.uri

    @property
    def identity(self) -> str:
        """Hash that says what it is, wherever it lies."""
        return self.manifest.identity


def open_artefact(path: Path | Location, kind: Kind | None = None) -> Artefact:
    """Open a whole artefact, of `kind` if given. Raises `LapaError` if missing, half-written, foreign or newer."""
    if not path.is_dir():
        raise LapaError(f"{path}: no such directory; {_expected(kind)}.")
    if not (path / MANIFEST).exists():
        raise LapaError(_unfinished_message(path, kind))
    manifest = _read(path / MANIFEST, Manifest)
    if kind is not None and manifest.kind != kind:
        raise LapaError(f"{path} holds a {manifest.kind} artefact; {_expected(kind)}.")
    return Artefact(path, manifest) if isinstance(path, Path) else Artefact(Path(path.path), manifest, path.uri)


def read_run(path: Path | Location) -> Run:
    """What `run.json` of an artefact directory says, whole or not. Raises `LapaError` if it is damaged."""
    return _read(path / RUN, Run)


def is_unfinished(path: Path) -> bool:
    """Whether a run lies at `path` that could be resumed."""
    return (path / RUN).exists() and not (path / MANIFEST).exists()


def _read(path: Path | Location, model: type[AnyRun]) -> AnyRun:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        _check_schema_version(path.parent, content)
        return model.model_validate(content)
    except (ValidationError, OSError, ValueError, TypeError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise LapaError(
            f"{path}: damaged or not of lapa_ray ({reason}); restore it, or make the artefact again."
        ) from error


def _check_schema_version(path: Path | Location, content: Any) -> None:
    """Raise `LapaError` for another version's layout: before validation, since its keys may be others too."""
    kind, found = (content.get("kind"), content.get("schema_version")) if isinstance(content, dict) else (None, None)
    if kind in SCHEMA_VERSIONS and found != SCHEMA_VERSIONS[kind]:
        made_by = dict(content.get("versions") or {}).get("lapa-ray", "that made it")
        raise LapaError(
            f"{path}: {kind} schema version {found}, but this lapa_ray reads version {SCHEMA_VERSIONS[kind]}; "
            f"make it again, or use the lapa_ray {made_by}."
        )


def _expected(kind: Kind | None) -> str:
    makers = {
        "agent": "an agent (made by train-dqn)",
        "frames": "a frame dataset (made by record, train-dqn or import-frames)",
        "vqvae": "a VQ-VAE (made by train-vqvae)",
        "codes": "codes (made by extract)",
        "world_model": "a world model (made by train-world-model)",
        "evaluation": "an evaluation (made by evaluate)",
        "data_quality": "a data quality (made by measure-data)",
        "comparison": "a comparison (made by compare-replay)",
        "sweep": "a sweep (made by sweep)",
        "latents": "an embedding of latents (made by visualize-latents)",
        "videos": "videos of an agent (made by record-video)",
    }
    return f"{makers.get(kind or '', 'an artefact directory')} is expected"


def _unfinished_message(path: Path | Location, kind: Kind | None) -> str:
    if not (path / RUN).exists():
        return f"{path}: holds no artefact ({MANIFEST} is missing); {_expected(kind)}."
    run = read_run(path)
    return f"{path}: this {run.kind} run has not finished; continue it with --resume, then use it."
