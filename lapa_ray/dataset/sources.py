"""Sources: what pictures can be imported from. A path in, episodes by name, with their pictures one by one, out.

An episode is a folder `0.png, 1.png, …`, a video file, or a NumPy file; actions lie beside it in a CSV file. Several
episodes are a folder of these. Everything that does not fit is a `LapaError` that names the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.errors import LapaError
from lapa_ray.dataset import arrays, png_folders, videos
from lapa_ray.dataset.step_tables import SUFFIX, Steps, read_steps

READERS = {
    **dict.fromkeys(arrays.SUFFIXES, arrays.read_array),
    **dict.fromkeys(videos.SUFFIXES, videos.read_video),
}
"""Which function yields the pictures of a file, by its suffix."""
Pictures = Iterator[tuple[str, NDArray[np.uint8]]]


@dataclass(frozen=True)
class Source:
    """An episode to be imported; `pictures()` yields the name and the pixels uint8 [H, W] or [H, W, 3] of each."""

    path: Path
    pictures: Callable[[], Pictures]
    steps: Steps

    @property
    def name(self) -> str:
        """Its name without a suffix."""
        return self.path.stem if self.path.is_file() else self.path.name


def open_sources(path: Path) -> dict[int, Source]:
    """Episode id → episode of everything below `path`.

    An id is the number at the end of the name where all names have one and no two the same; else the place in the
    natural order of the names.
    """
    sources = sorted(_open(path), key=lambda source: _natural(source.name))
    if not sources:
        raise LapaError(f"{path}: holds no pictures; give a folder of folders of 0.png, 1.png, …, or a file.")
    numbers = [re.search(r"(\d+)$", source.name) for source in sources]
    ids = [int(number[1]) for number in numbers if number and len(number[1]) < 19]  # an int64 has 19 digits
    return dict(zip(ids if len(set(ids)) == len(sources) else range(len(sources)), sources, strict=True))


def _open(path: Path) -> Iterator[Source]:
    if path.is_file():
        yield _file_source(path)
    elif not path.is_dir():
        raise LapaError(f"{path}: no such file or directory.")
    elif any(entry.suffix.lower() == png_folders.SUFFIX for entry in _entries(path)):
        yield _folder_source(path)
    else:
        yield from _open_each(path)


def _open_each(folder: Path) -> Iterator[Source]:
    entries = _entries(folder)
    stems = {entry.stem for entry in entries if entry.suffix.lower() in READERS}
    for entry in entries:
        if entry.is_dir():
            yield _folder_source(entry)
        elif entry.suffix.lower() in READERS:
            yield _file_source(entry)
        elif entry.suffix != SUFFIX or entry.stem not in stems:
            raise LapaError(
                f"{entry}: is no episode; a folder of episodes holds folders of PNG files, videos "
                f"({' '.join(videos.SUFFIXES)}) or arrays ({' '.join(arrays.SUFFIXES)}), each with NAME{SUFFIX} if "
                "its actions are known. Move it away."
            )


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, but hidden files, such as systems leave, and what lapa_ray says of an artefact."""
    ours = {"manifest.json", "run.json"}
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.name not in ours)


def _folder_source(folder: Path) -> Source:
    files = png_folders.numbered(folder, _entries(folder))
    return Source(folder, lambda: png_folders.read_pictures(files), read_steps(folder / png_folders.STEPS))


def _file_source(path: Path) -> Source:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise LapaError(f"{path}: cannot be imported; give a folder, a video ({' '.join(videos.SUFFIXES)}) or an array "
                        f"({' '.join(arrays.SUFFIXES)}).")  # fmt: skip
    steps = read_steps(path.with_suffix(SUFFIX))
    return Source(path, lambda: reader(path), steps or arrays.read_array_steps(path))


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts `e2` before `e10`."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)
