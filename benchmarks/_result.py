"""What every benchmark ends with: a table for people and one line of JSON for programs.

The JSON is `{"benchmark": NAME, "machine": {...}, "figures": {KEY: number, ...}}`.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

Cell = str | float | int | None
PACKAGES = ("lapa-ray", "ray", "torch", "numpy")


@dataclass(frozen=True)
class Row:
    """A figure, the bar that it is to pass, and what it was made of."""

    key: str
    value: float
    bar: str
    of: str


def print_rows(name: str, rows: Sequence[Row]) -> None:
    """`print_result` of a table that has one row a figure."""
    table: list[dict[str, Cell]] = [
        {"figure": row.key, "value": row.value, "bar": row.bar, "of": row.of} for row in rows
    ]
    print_result(name, table, {row.key: round(row.value, 4) for row in rows})


def say(text: str) -> None:
    """Tell what takes time now."""
    print(f"{text} ...", file=sys.stderr, flush=True)


def keep_to_two_cores() -> None:
    """As the bars are meant: for this process and all that it starts."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])


def print_result(name: str, rows: Sequence[Mapping[str, Cell]], figures: Mapping[str, float]) -> None:
    """Print `rows` as a table (the keys of the first are the headings) and, as the last line, the JSON."""
    print(table(rows))
    print(json.dumps({"benchmark": name, "machine": machine(), "figures": dict(figures)}, allow_nan=False), flush=True)


def table(rows: Sequence[Mapping[str, Cell]]) -> str:
    """A Markdown table: words to the left, numbers to the right, missing values as a dash."""
    headings = list(rows[0])
    cells = [[_cell(row[heading]) for heading in headings] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(headings, *cells, strict=True)]
    right = [all(not isinstance(row[heading], str) for row in rows) for heading in headings]
    rule = "|".join("-" * (width + 1) + (":" if numeric else "-") for width, numeric in zip(widths, right, strict=True))
    lines = [_line(line, widths, right) for line in (headings, *cells)]
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def machine() -> dict[str, str | float | int | None]:
    """What the figures were measured on."""
    described: dict[str, str | float | int | None] = {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpu": _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"),
        "python": platform.python_version(),
        "commit": _output("git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"),
    }
    return described | {package: version(package) for package in PACKAGES}


def _cell(value: Cell) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _line(texts: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = [t.rjust(w) if numeric else t.ljust(w) for t, w, numeric in zip(texts, widths, right, strict=True)]
    return f"| {' | '.join(padded)} |"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _output(program: str, *arguments: str) -> str | None:
    if shutil.which(program) is None:
        return None
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip().replace("\n", ", ") or None if done.returncode == 0 else None
