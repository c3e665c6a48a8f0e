"""Templates: the Jinja environment of all pages, in which a missing value stops the rendering."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from lapa_ray.evaluation.figures import format_interval, format_value

FOLDER = Path(__file__).parent


def page_template(name: str) -> Template:
    """The template `name` of this folder; values are escaped."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"value_of": format_value, "interval_of": format_interval}
    return environment.get_template(name)
