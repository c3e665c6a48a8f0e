"""Options: what a config model lets a user set, as dotted paths with type, bounds, default and meaning.

In: a config model. Out: what the help prints and what error messages say was expected. Knows no command line.
"""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from lapa_ray.core.config import Config

_KINDS: dict[Any, str] = {bool: "true|false", int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH", Any: "VALUE"}
_REQUIRED = object()


@dataclass(frozen=True)
class Option:
    """One option: its dotted path, what may be given, and what for."""

    path: str
    kind: str
    """The form of the value: INT, FLOAT, PATH, {a,b}, [INT,...] …"""
    bounds: str
    """What the value must fulfil, such as "0 < x ≤ 1"; empty if anything of its kind will do."""
    default: str | None
    """The default as it would be typed, or None if the option is required."""
    meaning: str
    """The field's docstring."""
    is_flag: bool = False
    """Whether the bare option means true."""
    is_open: bool = False
    """Whether keys of the user's own may follow below it (a dictionary)."""

    @property
    def expected(self) -> str:
        """Kind and bounds in a phrase, for error messages."""
        return f"{self.kind} with {self.bounds}" if self.bounds else self.kind


@dataclass(frozen=True)
class Group:
    """The options of one config model: `path` is empty for the model itself."""

    path: str
    meaning: str
    options: tuple[Option, ...]


def groups_of(model: type[Config]) -> list[Group]:
    """The groups of options of `model`, itself first, then every nested model."""
    return list(_groups(model, "", None))


def options_of(model: type[Config]) -> dict[str, Option]:
    """Every option of `model` by its dotted path."""
    return {option.path: option for group in groups_of(model) for option in group.options}


def closest(name: str, known: Iterable[str]) -> str | None:
    """The path in `known` that `name` was probably meant to be, or None. Knows `lr` for `optimiser.lr` too."""
    paths = sorted(known)
    name = name.replace("-", "_")
    same_last = [path for path in paths if path.rpartition(".")[2] == name.rpartition(".")[2]]
    close = difflib.get_close_matches(name, paths, n=1)
    return next(iter(same_last or close or _close_last_part(name, paths)), None)


def _close_last_part(name: str, paths: list[str]) -> list[str]:
    last = difflib.get_close_matches(name.rpartition(".")[2], [p.rpartition(".")[2] for p in paths], n=1, cutoff=0.75)
    return [path for path in paths if last and path.rpartition(".")[2] == last[0]]


def _groups(model: type[Config], prefix: str, default: Config | None, meaning: str = "") -> Iterable[Group]:
    options: list[Option] = []
    nested: list[Group] = []
    for name, field in model.model_fields.items():
        value = getattr(default, name) if default is not None else _default(field)
        inner = _nested_model(field.annotation)
        if inner is None:
            options.append(_option(prefix + name, field, value))
        else:
            inside = value if isinstance(value, Config) else None
            nested += _groups(inner, f"{prefix}{name}.", inside, field.description or "")
    yield Group(prefix.rstrip("."), meaning or (model.__doc__ or "").strip().partition("\n")[0], tuple(options))
    yield from nested


def _option(path: str, field: FieldInfo, default: Any) -> Option:
    return Option(
        path=path,
        kind=_kind(field.annotation),
        bounds=_bounds([*field.metadata, *_inner_metadata(field.annotation)]),
        default=None if default is _REQUIRED else _as_typed(default),
        meaning=(field.description or "").strip(),
        is_flag=field.annotation is bool,
        is_open=get_origin(field.annotation) is dict,
    )


def _nested_model(annotation: Any) -> type[Config] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, Config) else None


def _default(field: FieldInfo) -> Any:
    return _REQUIRED if field.is_required() else field.get_default(call_default_factory=True, validated_data={})


def _as_typed(value: Any) -> str:
    if isinstance(value, Path | str):
        return str(value)
    return json.dumps(value, default=str)


def _kind(annotation: Any) -> str:
    """The form of a value of type `annotation`, in the words of the help."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if annotation in _KINDS:
        return _KINDS[annotation]
    if origin is Literal:
        return "{" + ",".join(str(value) for value in inside) + "}"
    if hasattr(annotation, "__metadata__"):
        return _kind(annotation.__origin__)
    if origin in {Union, types.UnionType}:
        return " or ".join("null" if part is type(None) else _kind(part) for part in inside)
    return _container(origin, inside) or str(annotation)


def _container(origin: Any, inside: tuple[Any, ...]) -> str:
    if origin in {tuple, list}:
        parts = ["..." if part is Ellipsis else _kind(part) for part in inside]
        return "[" + ",".join(parts if origin is tuple else [*parts, "..."]) + "]"
    if origin is dict:
        return "{" + ": ".join(_kind(part) for part in inside) + "}"
    return ""


def _inner_metadata(annotation: Any) -> list[Any]:
    """Constraints inside `Annotated[...] | None` and the like."""
    if hasattr(annotation, "__metadata__"):
        return [m for item in annotation.__metadata__ for m in getattr(item, "metadata", [item])]
    return [m for part in get_args(annotation) for m in _inner_metadata(part)]


def _bounds(metadata: list[Any]) -> str:
    """Bounds of pydantic's constraints as "0 < x ≤ 1"; whatever is not a bound is passed over."""
    limit = {name: getattr(item, name) for item in metadata for name in ("gt", "ge", "lt", "le") if hasattr(item, name)}
    low = next((f"{limit[name]} {sign} " for name, sign in (("gt", "<"), ("ge", "≤")) if name in limit), "")
    high = next((f" {sign} {limit[name]}" for name, sign in (("lt", "<"), ("le", "≤")) if name in limit), "")
    if low and not high:
        return f"x > {limit['gt']}" if "gt" in limit else f"x ≥ {limit['ge']}"
    return f"{low}x{high}" if high else _length(metadata)


def _length(metadata: list[Any]) -> str:
    least = next((item.min_length for item in metadata if getattr(item, "min_length", None)), None)
    most = next((item.max_length for item in metadata if getattr(item, "max_length", None)), None)
    if least and least == most:
        return f"{least} items"
    return f"at least {least} items" if least else f"at most {most} items" if most else ""
