"""Config files: YAML checked for form and keys before it is parsed, so that a fault names the file and the key."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from lapa_ray.core.config import Config
from lapa_ray.core.errors import LapaError
from lapa_ray.core.options import closest, groups_of, options_of


def check_config_file(path: Path, model: type[Config]) -> bool:
    """Whether the YAML file `path` says anything; raises `LapaError` unless it holds options of `model` alone.

    A file that is empty, or of comments alone, is right: it holds no differences from the defaults.
    """
    content = _load(path)
    if content is None:
        return False
    if not isinstance(content, Mapping):
        raise LapaError(f"--config {path}: should hold lines of the form KEY: VALUE.")
    check_keys(content, model, f"--config {path}: ")
    return bool(content)


def check_keys(content: Mapping[Any, Any], model: type[Config], where: str, group: str = "") -> None:
    """Raise `LapaError`, which begins with `where`, unless `content` holds options of `group` of `model` alone."""
    groups = {each.path for each in groups_of(model)} - {""}
    known = groups | set(options_of(model))
    for key, value in _items(content, model, f"{group}." if group else ""):
        if key not in known:
            hint = closest(key, known)
            raise LapaError(f"{where}there is no option {key}{f'; did you mean {hint}?' if hint else '.'}")
        if key in groups and not isinstance(value, Mapping):
            given = "nothing" if value is None else json.dumps(value, default=str).strip('"')
            raise LapaError(f"{where}{key} should hold lines of the form KEY: VALUE below it; got {given}.")


def _load(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise LapaError(f"--config {path}: cannot be read ({getattr(error, 'strerror', 'not UTF-8 text')}).") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise LapaError(f"--config {path}{where}: is not valid YAML ({problem}).") from error


def _items(content: Mapping[Any, Any], model: type[Config], prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted paths and values in `content`, down to the options of `model`; below a dictionary option all goes."""
    options = options_of(model)
    for name, value in content.items():
        path = f"{prefix}{name}"
        yield path, value
        if isinstance(value, Mapping) and path not in options:
            yield from _items(value, model, f"{path}.")
