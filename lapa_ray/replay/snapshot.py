"""A nested state of arrays and numbers to and from two files. NumPy only.

The one great array, the frames, has a file of its own that is read through a memory map: a state of 7 GB is neither
copied to be written nor held twice to be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from lapa_ray.core.errors import LapaError
from lapa_ray.core.files import replacing

_FRAMES = "buffer/store/frames/frames"


def save_state(folder: Path, name: str, state: dict[str, Any]) -> None:
    """Write `state` as `name`.frames.npy and `name`.npz in `folder`, each by rename, the small one last."""
    flat = dict(_flatten(state))
    with replacing(_frames_path(folder, name)) as temporary, temporary.open("wb") as file:
        np.save(file, flat.pop(_FRAMES))
    with replacing(folder / f"{name}.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **flat)


def load_state(folder: Path, name: str) -> dict[str, Any] | None:
    """What `save_state` wrote, its frames as a read-only memory map; None if it is not there.

    Raises `LapaError` if it is damaged.
    """
    path = folder / f"{name}.npz"
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            flat: dict[str, Any] = {key: arrays[key] for key in arrays.files}
        flat[_FRAMES] = np.load(_frames_path(folder, name), mmap_mode="r")
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise LapaError(f"{path}: damaged ({error}); delete it to resume with an empty replay buffer.") from error
    return _unflatten(flat)


def delete_states(folder: Path, keep: str | None = None) -> None:
    """Delete every snapshot in `folder` but `keep`."""
    kept = {f"{keep}.npz", f"{keep}.frames.npy"}
    for path in [*folder.glob("*.npz"), *folder.glob("*.frames.npy")]:
        if path.name not in kept:
            path.unlink(missing_ok=True)


def _frames_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.frames.npy"


def _flatten(state: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for key, value in state.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", np.asarray(value)


def _unflatten(flat: dict[str, Any]) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, name = path.split("/")
        inner = state
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = value
    return state
