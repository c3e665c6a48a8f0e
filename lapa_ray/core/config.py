"""Config models: the only schema there is. YAML nesting, command-line override and Tune key are one dotted path.

Defaults live here, in the model that stands above the class it configures; YAML files hold differences only.
The identity of a run is its config without paths, resources and logging: those change where or how fast a thing is
made, never what is made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from pydantic.fields import FieldInfo


class Config(BaseModel):
    """Base of every config model: frozen, no unknown keys, a docstring below each field (with its unit)."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=(), allow_inf_nan=False
    )
    part_of_identity: ClassVar[bool] = True


NOT_IDENTITY = "not part of the identity"
"""Marks a field, in `Annotated`, that does not change what a stage makes."""

AnyConfig = TypeVar("AnyConfig", bound=Config)
Fraction = Annotated[float, Field(ge=0, le=1)]
Device = Literal["auto", "cuda", "mps", "cpu"]


class WandbConfig(Config):
    """Weights & Biases."""

    part_of_identity: ClassVar[bool] = False

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: online if an API key is set, otherwise disabled, said once."""
    project: str = "lapa_ray"
    """Project that the run is filed under."""
    name: str = ""
    """Name of the run; the name of the output directory if empty."""


class PlainStageConfig(Config):
    """What every stage has that writes an artefact."""

    out: Path
    """Directory of the artefact to write; new, empty, or unfinished with --resume."""
    resume: Annotated[bool, NOT_IDENTITY] = False
    """Continue the unfinished run in --out from its last checkpoint."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of every random draw of this stage."""


class StageConfig(PlainStageConfig):
    """What every stage has that keeps a metric log."""

    wandb: WandbConfig = WandbConfig()
    """Weights & Biases."""


class RayConfig(Config):
    """A local Ray; unused when RAY_ADDRESS names a cluster."""

    part_of_identity: ClassVar[bool] = False

    num_cpus: PositiveInt | None = None
    """CPU cores that Ray may plan with; all cores if not given."""
    object_store_mb: int = Field(512, ge=80)
    """Bound of the shared-memory object store, MB."""


def identity_of(config: Config) -> dict[str, Any]:
    """What of `config` decides the result, as JSON values: no paths, resources, logging or fields marked so."""
    dumped = config.model_dump(mode="json")
    return {name: _identity_value(getattr(config, name), dumped[name]) for name in _identity_fields(config)}


def _identity_fields(config: Config) -> list[str]:
    fields = type(config).model_fields
    return [name for name, field in fields.items() if _is_part(field, getattr(config, name))]


def _is_part(field: FieldInfo, value: object) -> bool:
    if NOT_IDENTITY in field.metadata or (isinstance(value, Config) and not value.part_of_identity):
        return False
    # A path not given is still a path; a word in its place (`random` for an agent) says what is made.
    return isinstance(value, str) or not _admits_path(field.annotation)


def _admits_path(annotation: Any) -> bool:
    return annotation is Path or any(_admits_path(part) for part in get_args(annotation))


def _identity_value(value: object, dumped: Any) -> Any:
    return identity_of(value) if isinstance(value, Config) else dumped
