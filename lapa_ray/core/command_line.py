"""Config models from command lines and YAML files, by jsonargparse; every fault is a message of one or two lines."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from jsonargparse import ArgumentError, ArgumentParser
from pydantic import ValidationError

from lapa_ray.core.config import AnyConfig, Config
from lapa_ray.core.config_file import check_config_file, check_keys
from lapa_ray.core.errors import LapaError
from lapa_ray.core.help_text import help_text
from lapa_ray.core.options import closest, groups_of, options_of

GENERAL = ("config", "print_config", "help")
LONGEST_VALUE = 60


def parser_for(model: type[Config], prog: str) -> ArgumentParser:
    """Parser with one option a field of `model`, dotted for nested ones, `--config FILE` and `--print_config`."""
    parser = ArgumentParser(prog=prog, exit_on_error=False, allow_abbrev=False, add_help=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(model, None, fail_untyped=True)
    return parser


def parse_config(
    model: type[AnyConfig], arguments: Sequence[str], prog: str = "lapa-ray", summary: str = ""
) -> AnyConfig:
    """Build `model` from command-line `arguments`. Raises `LapaError` that names the wrong option or key.

    `--help` and `--print_config` print and raise `SystemExit(0)`.
    """
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(help_text(model, prog, summary))
        raise SystemExit(0)
    try:
        return _parse(model, arguments, prog)
    except LapaError as error:
        raise LapaError(f"{error}\nSee {prog} --help.") from error
    except (ArgumentError, ValidationError, ValueError) as error:
        raise LapaError(f"{_tidy(error, model)}\nSee {prog} --help.") from error


def _parse(model: type[AnyConfig], arguments: Sequence[str], prog: str) -> AnyConfig:
    _check_options(model, arguments)
    _check_groups(model, arguments)
    parser = parser_for(model, prog)
    parsed = parser.parse_args(spell_out_flags(model, _without_empty_files(model, arguments)))
    # As a plain mapping, which pydantic validates whole: what it finds wrong far inside is named by its whole path.
    fields = {name: value for name, value in parsed.as_dict().items() if name != "config"}
    return model.model_validate(fields)


def spell_out_flags(model: type[Config], arguments: Sequence[str]) -> list[str]:
    """`arguments` with "true" behind each bare boolean option, so that `--resume` does what it says."""
    flags = {f"--{option.path}" for option in options_of(model).values() if option.is_flag}
    spelt = []
    for index, argument in enumerate(arguments):
        spelt.append(argument)
        following = arguments[index + 1] if index + 1 < len(arguments) else "--"
        if argument in flags and following.startswith("--"):
            spelt.append("true")
    return spelt


def _check_options(model: type[Config], arguments: Sequence[str]) -> None:
    """Raise `LapaError` for the first option that does not exist, with the one that was probably meant."""
    options = options_of(model)
    known = {*options, *GENERAL, *(group.path for group in groups_of(model))} - {""}
    for argument in arguments:
        name = argument.removeprefix("--").partition("=")[0].removesuffix("+")
        below_open = any(option.is_open and name.startswith(f"{option.path}.") for option in options.values())
        if argument.startswith("--") and name not in known and not below_open:
            hint = closest(name, known)
            raise LapaError(f"--{name}: there is no such option{f'; did you mean --{hint}?' if hint else '.'}")


def _check_groups(model: type[Config], arguments: Sequence[str]) -> None:
    """Raise `LapaError` unless what is given for a group as a whole, such as --ray "{num_cpus: 4}", is just that."""
    groups = {f"--{group.path}": group for group in groups_of(model) if group.path}
    for argument, following in zip(arguments, [*arguments, "--"][1:], strict=True):
        option, equals, value = argument.partition("=")
        if option not in groups or (not equals and following.startswith("--")):
            continue
        group = groups[option]
        content = _as_yaml(value if equals else following)
        if not isinstance(content, Mapping):
            example = next(path for path in options_of(model) if path.startswith(f"{group.path}."))
            raise LapaError(f"{option}: stands for several options; give one of them, such as --{example}.")
        check_keys(content, model, f"{option}: ", group.path)


def _as_yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _without_empty_files(model: type[Config], arguments: Sequence[str]) -> list[str]:
    """`arguments` less the config files that say nothing; each of the others is checked."""
    kept: list[str] = []
    rest = list(arguments)
    while rest:
        option, _, value = rest[0].partition("=")
        given = [rest.pop(0)]
        if option == "--config" and not value and rest:
            value = rest.pop(0)
            given.append(value)
        if option != "--config" or not value or check_config_file(Path(value), model):
            kept += given
    return kept


def _tidy(error: Exception, model: type[Config]) -> str:
    """The fault in one line: the option, what was given and what is expected."""
    if isinstance(error, ValidationError):
        return _tidy_validation(error)
    text = str(error)
    return _wrong_value(text, model) or _missing(text) or _plain(text)


def _tidy_validation(error: ValidationError) -> str:
    first: Any = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if named := re.match(r"([a-z_.]+): ", message):  # by a check of several fields at once
        where, message = f"{where}.{named[1]}".lstrip("."), message[named.end() :]
    return f"--{where}: {message}" if where else message


def _wrong_value(text: str, model: type[Config]) -> str | None:
    """What jsonargparse says of a wrong value, in our words: it spells out types where a user wants bounds."""
    keys = re.findall(r'Parser key "([^"]+)"', text)
    option = options_of(model).get(keys[-1]) if keys else None
    given = re.search(r"(?:Got|Given) value: (.*)", text, re.DOTALL)
    if option is None or given is None:
        return None
    value = " ".join(given[1].split()).rstrip(".")
    shown = value if len(value) <= LONGEST_VALUE else f"{value[:LONGEST_VALUE]} ..."
    return f"--{option.path}: should be {option.expected}; got {shown or 'nothing'}."


def _missing(text: str) -> str | None:
    names = re.search(r"following arguments are required: (.*)", text)
    return f"missing: {', '.join(f'--{name}' for name in names[1].split(', '))}." if names else None


def _plain(text: str) -> str:
    text = re.sub(r"\s*For further information visit \S+", "", text)
    text = re.sub(r"\[type=[^\]]*\]\.?", "", text)
    text = re.sub(r"\d+ validation errors? for \S+", "", text)
    text = re.sub(r"unrecognized arguments: ", "belongs to no option: ", text)
    text = re.sub(r"^argument (--\S+): expected one argument", r"\1: needs a value.", text)
    text = re.sub(r'Parser key "([^"]+)"', r"--\1", text)
    return re.sub(r"\s+", " ", text).replace(" .", ".").strip()
