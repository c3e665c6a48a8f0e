"""What the code imports is declared, and what is declared is pinned."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED, EXTRAS = PROJECT["dependencies"], PROJECT["optional-dependencies"]
ALL = [*NEEDED, *(requirement for extra in EXTRAS.values() for requirement in extra)]


def name_of(requirement: str) -> str:
    return canonical(re.match(r"[\w.-]+", requirement)[0])


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(folder: str) -> Iterator[str]:
    """Top-level names of all modules that the Python files in `folder` import from elsewhere."""
    for file in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0]


@pytest.mark.parametrize(
    ("folder", "declared"),
    [("lapa_ray", [*NEEDED, *EXTRAS["video"]]), ("benchmarks", [*NEEDED, *EXTRAS["bench"]]), ("tests", ALL)],
)
def test_what_is_imported_is_declared(folder, declared):
    ours = {"lapa_ray", "benchmarks", "tests"}
    modules = set(imported(folder)) - ours - set(sys.stdlib_module_names)
    makers = packages_distributions()
    names = {name_of(requirement) for requirement in declared}
    # What the benchmarks compare with is not installed for the tests: it bears the name that it is imported by.
    missing = {module for module in modules if not names & {canonical(m) for m in makers.get(module, [module])}}
    assert missing == set()


def test_what_is_declared_is_pinned():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {canonical(line.partition("==")[0]) for line in lines if "==" in line}
    assert {name_of(requirement) for requirement in ALL} - pinned == set()
