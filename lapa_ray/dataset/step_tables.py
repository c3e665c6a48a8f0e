"""Step tables: what is known of the steps of an imported or exported episode, as a CSV file beside its pictures.

A header, then one line a step: the step t leads from picture t to picture t+1.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.errors import LapaError
from lapa_ray.core.files import replacing

SUFFIX = ".csv"
KINDS: dict[str, type[np.generic]] = {"action": np.int8, "executed_action": np.int8, "reward": np.float32}
"""The columns that there may be. Actions are indices into the game's action meanings; rewards are raw scores."""
Steps = dict[str, NDArray[np.generic]]
"""Column → its values [T]; only what is known."""


def read_steps(path: Path) -> Steps:
    """The columns of a CSV file; none where there is no file. Raises `LapaError` that names the file and the line."""
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LapaError(f"{path}: cannot be read as CSV ({error}).") from error
    header = [name.strip() for name in rows[0]] if rows else []
    if not header or len(set(header)) < len(header) or not set(header) <= set(KINDS):
        raise LapaError(f"{path}: its first line must name its columns, out of {', '.join(KINDS)}, each once.")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise LapaError(f"{path}: line {number} has {len(row)} values, its header {len(header)}.")
    return {name: _column(path, name, [row[index] for row in rows[1:]]) for index, name in enumerate(header)}


def checked(path: Path, name: str, values: NDArray[np.generic]) -> NDArray[np.generic]:
    """`values` [T] in the type of column `name`; raises `LapaError` for what it cannot say."""
    kind = KINDS[name]
    with np.errstate(over="ignore", invalid="ignore"):
        typed = values.astype(kind) if values.ndim == 1 and values.dtype.kind in "iuf" else None
    if typed is None or not np.isfinite(typed).all() or (kind is np.int8 and not np.array_equal(typed, values)):
        what = "whole numbers from 0 to 127" if kind is np.int8 else "numbers"
        raise LapaError(f"{path}: {name} must be one row of {what}.")
    if kind is np.int8 and (typed < 0).any():
        raise LapaError(f"{path}: {name} holds {typed.min()}; actions count from 0.")
    return typed


def write_steps(path: Path, steps: Steps) -> None:
    """Write the columns of `steps`, of one length, to `path`, by rename."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(steps)
        writer.writerows(zip(*(column.tolist() for column in steps.values()), strict=True))


def _column(path: Path, name: str, values: list[str]) -> NDArray[np.generic]:
    for number, value in enumerate(values, start=2):
        try:
            float(value) if name == "reward" else int(value)
        except ValueError:
            what = "a number" if name == "reward" else "a whole number"
            raise LapaError(f"{path}: line {number}: {name} must be {what}, not {value!r}.") from None
    return checked(path, name, np.array(values, dtype=np.float64))
