"""Array files: named arrays as one compressed `.npz`, written by rename; and back, or a fault that names the file."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.errors import LapaError
from lapa_ray.core.files import replacing

Held = TypeVar("Held")


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write `path`, compressed, by rename."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_arrays(path: Path, kind: type[Held]) -> Held:
    """The dataclass `kind`, of an array a field, from `path` in an evaluation. Raises `LapaError` if damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return kind(**{field.name: arrays[field.name] for field in fields(kind)})  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise LapaError(f"{path}: damaged ({error}); make the evaluation again.") from error
