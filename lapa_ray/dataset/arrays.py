"""NumPy files: an episode as `.npy`, or `.npz` with what is known of its steps, read and written."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.errors import LapaError
from lapa_ray.dataset.step_tables import KINDS, Steps, checked

SUFFIXES = (".npy", ".npz")
FRAMES = "frames"


def read_array(path: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield the name and the pixels of each picture of an array uint8 [T, H, W] (grey) or [T, H, W, 3] (RGB)."""
    with _named(path):
        for number, frame in enumerate(_npy(path) if path.suffix.lower() == ".npy" else _npz(path)):
            yield f"{path} frame {number}", frame


def read_array_steps(path: Path) -> Steps:
    """What an `.npz` file tells of its steps: arrays [T] named as the columns of a step table."""
    if path.suffix.lower() != ".npz":
        return {}
    with _named(path), np.load(path, allow_pickle=False) as loaded:
        return {name: checked(path, name, loaded[name]) for name in KINDS if name in loaded}


def write_array(path: Path, pictures: Iterable[NDArray[np.uint8]], shape: tuple[int, ...], steps: Steps) -> None:
    """Write RGB pictures uint8, `shape` [T, H, W, 3] in all, and `steps` to an `.npz` file, one picture at a time."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(FRAMES + ".npy", "w", force_zip64=True) as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for picture in pictures:
                file.write(picture.tobytes())
        for name, column in steps.items():
            with archive.open(name + ".npy", "w") as file:
                np.lib.format.write_array(file, column, allow_pickle=False)


def _npy(path: Path) -> Iterator[NDArray[np.uint8]]:
    frames = np.load(path, mmap_mode="r", allow_pickle=False)
    _check(path, frames.shape, frames.dtype)
    yield from map(np.asarray, frames)


def _npz(path: Path) -> Iterator[NDArray[np.uint8]]:
    """One picture after the other: all at once may be more than fits into memory."""
    with zipfile.ZipFile(path) as archive:
        if FRAMES + ".npy" not in archive.namelist():
            raise LapaError(f"{path}: holds no array '{FRAMES}', but {', '.join(archive.namelist()) or 'nothing'}.")
        with archive.open(FRAMES + ".npy") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran_order, dtype = read(file)
            _check(path, shape, dtype)
            if fortran_order:
                raise LapaError(f"{path}: its frames lie in Fortran order; save them in C order.")
            for _ in range(shape[0]):
                frame = file.read(math.prod(shape[1:]))
                yield np.frombuffer(frame, dtype=np.uint8).reshape(shape[1:])
            if file.read(1):  # the end: only here is the checksum compared
                raise LapaError(f"{path}: holds more frames than it says.")


def _check(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if dtype != np.uint8 or len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] != 3) or 0 in shape[1:]:
        raise LapaError(
            f"{path}: its frames are {dtype} {list(shape)}; they must be uint8 [T, H, W], grey, or [T, H, W, 3], RGB."
        )


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What NumPy says of a file becomes a `LapaError` that names it."""
    try:
        yield
    except LapaError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LapaError(f"{path}: cannot be read as a NumPy file ({reason}).") from error
