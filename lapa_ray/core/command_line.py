"""Config models from command lines and YAML files, by jsonargparse; every fault is a message of one or two lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings
from pydantic import BaseModel, ValidationError

from lapa_ray.core.config import AnyConfig, Config
from lapa_ray.core.errors import LapaError

set_parsing_settings(docstring_parse_attribute_docstrings=True)


def parser_for(model: type[Config], prog: str) -> ArgumentParser:
    """Parser with one option a field of `model`, dotted for nested ones, `--config FILE` and `--print_config`."""
    parser = ArgumentParser(prog=prog, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file of options; later options override it.")
    parser.add_class_arguments(model, None, fail_untyped=True)
    return parser


def parse_config(model: type[AnyConfig], arguments: Sequence[str], prog: str = "lapa-ray") -> AnyConfig:
    """Build `model` from command-line `arguments`. Raises `LapaError` that names the wrong option or key."""
    parser = parser_for(model, prog)
    try:
        parsed = parser.parse_args(spell_out_flags(model, arguments))
        fields = {name: value for name, value in parser.instantiate(parsed).items() if name != "config"}
        return model.model_validate(fields)
    except (ArgumentError, ValidationError, ValueError) as error:
        raise LapaError(f"{_tidy(error)}\nSee {prog} --help.") from error


def spell_out_flags(model: type[Config], arguments: Sequence[str]) -> list[str]:
    """`arguments` with "true" behind each bare boolean option, so that `--resume` does what it says."""
    flags = {f"--{name}" for name in boolean_paths(model)}
    spelt = []
    for index, argument in enumerate(arguments):
        spelt.append(argument)
        following = arguments[index + 1] if index + 1 < len(arguments) else "--"
        if argument in flags and following.lower() not in {"true", "false", "yes", "no"}:
            spelt.append("true")
    return spelt


def boolean_paths(model: type[Config], prefix: str = "") -> list[str]:
    """Dotted paths of the boolean fields of `model`."""
    paths = []
    for name, kind in get_type_hints(model).items():
        if kind is bool and name in model.model_fields:
            paths.append(prefix + name)
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            paths += boolean_paths(kind, f"{prefix}{name}.")  # type: ignore[arg-type]
    return paths


def _tidy(error: Exception) -> str:
    """The fault in one line: the key, what is wrong and what was given."""
    if isinstance(error, ValidationError):
        first: Any = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"--{where}: {first['msg']}" if where else str(first["msg"])
    text = re.sub(r"\s*For further information visit \S+", "", str(error))
    text = re.sub(r"\[type=[^\]]*\]\.?", "", text)
    text = re.sub(r"\d+ validation errors? for \S+", "", text)
    text = re.sub(r'Parser key "([^"]+)"', r"--\1", text)
    return re.sub(r"\s+", " ", text).replace(" .", ".").strip()
