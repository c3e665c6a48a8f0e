"""The README's file tree has one line for each file, and a file for each line.

LAPA_UPDATE_GOLDEN=1 adds lines for new files, with the first sentence of their docstring, and drops those of lost ones.
"""

import ast
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
FOLDERS = (".ci", "benchmarks", "docs", "lapa_ray", "tune_configs")
NOT_LISTED = {"__init__.py"}
COLUMN = 30


def listed() -> dict[str, str]:
    """Path to description, from the fenced block under "## Files"."""
    entries: dict[str, str] = {}
    folders: list[str] = []
    for line in filter(str.strip, block().splitlines()):
        depth = (len(line) - len(line.lstrip())) // 2
        name, _, description = line.strip().partition(" ")
        path = "".join(folders[:depth]) + name
        if name.endswith("/"):
            folders[depth:] = [name]
        else:
            assert path not in entries, f"{path} is listed twice"
            entries[path] = description.strip()
    return entries


def block() -> str:
    return README.read_text(encoding="utf-8").partition("## Files")[2].split("```")[1]


def present() -> set[str]:
    inside = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    on_top = [path for path in ROOT.iterdir() if not path.name.startswith(".")]
    files = [path.relative_to(ROOT) for path in (*inside, *on_top) if path.is_file()]
    return {str(path) for path in files if path.name not in NOT_LISTED and "__pycache__" not in path.parts}


@pytest.fixture(scope="module", autouse=True)
def updated():
    if os.environ.get("LAPA_UPDATE_GOLDEN"):
        text = README.read_text(encoding="utf-8")
        before, _, after = text.partition("## Files")
        after = after.replace(f"```{block()}```", f"```\n{tree(sorted(present()), listed())}```", 1)
        README.write_text(f"{before}## Files{after}", encoding="utf-8")


def tree(paths: list[str], descriptions: dict[str, str], folder: str = "") -> str:
    """Lines of the files in `folder`, then those of its subfolders."""
    indent = "  " * folder.count("/")
    names = [path.removeprefix(folder) for path in paths if path.startswith(folder)]
    lines = ""
    for name in (name for name in names if "/" not in name):
        description = descriptions.get(folder + name) or first_sentence(ROOT / folder / name)
        lines += f"{indent}{name}".ljust(COLUMN - 1) + f" {description}\n"
    for name in sorted({name.partition("/")[0] for name in names if "/" in name}):
        lines += f"{indent}{name}/\n" + tree(paths, descriptions, f"{folder}{name}/")
    return lines


def first_sentence(path: Path) -> str:
    if path.suffix == ".png":
        return "A picture"
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        text = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0].replace("\n", " ")
    return text.partition("\n")[0].lstrip("# ").partition(". ")[0].rstrip(".")


def test_every_file_is_listed():
    assert sorted(present() - set(listed())) == []


def test_every_line_is_a_file():
    assert sorted(set(listed()) - present()) == []


def test_every_line_says_what_for():
    assert [path for path, description in listed().items() if len(description) < 10] == []
