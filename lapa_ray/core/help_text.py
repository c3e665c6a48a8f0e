"""Help text: a config model → what `lapa-ray COMMAND --help` prints. The docstrings of the fields are the help."""

from __future__ import annotations

import shutil
import textwrap

from lapa_ray.core.config import Config
from lapa_ray.core.options import Group, Option, groups_of, options_of

WIDEST, NARROWEST = 110, 50
INDENT = 6


def help_text(model: type[Config], prog: str, summary: str = "") -> str:
    """Usage, `summary` and every option of `model` with its unit, bounds and default, as wide as the terminal."""
    width = max(NARROWEST, min(WIDEST, shutil.get_terminal_size().columns))
    parts = [_usage(model, prog, width), *([summary] if summary else []), _general(width)]
    return "\n\n".join(parts + [_group_text(group, width) for group in groups_of(model) if group.options]) + "\n"


def _usage(model: type[Config], prog: str, width: int) -> str:
    required = [f"--{o.path} {o.kind}" for o in options_of(model).values() if o.default is None]
    words = " ".join([f"usage: {prog}", *required, "[--config FILE] [--OPTION VALUE ...]"])
    return textwrap.fill(words, width, subsequent_indent=" " * INDENT, break_on_hyphens=False)


def _general(width: int) -> str:
    lines = [
        _entry("-h, --help", "Show this help.", width),
        _entry("--config FILE", "YAML file of options, nested as the dots are; what follows overrides it.", width),
        _entry("--print_config", "Print all options as YAML, with what was given so far, and stop.", width),
    ]
    return "\n".join(lines)


def _group_text(group: Group, width: int) -> str:
    title = group.meaning.rstrip(".") or group.path
    heading = f"{title} ({group.path}):" if group.path else f"{title}:"
    return "\n".join([heading, *[_option_text(option, width) for option in group.options]])


def _option_text(option: Option, width: int) -> str:
    kind = "[true|false]" if option.is_flag else option.kind
    facts = [option.bounds, "required" if option.default is None else f"default {option.default or 'empty'}"]
    return _entry(f"--{option.path} {kind}", f"{option.meaning} ({'; '.join(filter(None, facts))})", width)


def _entry(head: str, text: str, width: int) -> str:
    body = textwrap.fill(
        " ".join(text.split()),
        width,
        initial_indent=" " * INDENT,
        subsequent_indent=" " * INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return f"  {head}\n{body}"
