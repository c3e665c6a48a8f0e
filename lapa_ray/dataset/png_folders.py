"""PNG folders: an episode as `0.png, 1.png, …`, read and written, with `steps.csv` where its steps are known."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.errors import LapaError

SUFFIX = ".png"
STEPS = "steps.csv"
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def numbered(folder: Path, entries: Sequence[Path]) -> list[Path]:
    """The pictures among the `entries` of an episode's folder, 0, 1, 2, … Raises `LapaError` for what does not fit."""
    pictures: dict[int, Path] = {}
    for entry in entries:
        if entry.name == STEPS:
            continue
        if not re.fullmatch(r"\d+\.png", entry.name, flags=re.IGNORECASE | re.ASCII) or not entry.is_file():
            raise LapaError(f"{entry}: is no picture of an episode, which are 0.png, 1.png, …; move it away.")
        number = int(entry.stem)
        if number in pictures:
            raise LapaError(f"{entry}: {pictures[number].name} has the same number; remove one.")
        pictures[number] = entry
    for expected, number in enumerate(sorted(pictures)):
        if number != expected:
            raise LapaError(f"{folder}: {expected}.png is missing, while there is {pictures[number].name}.")
    if not pictures:
        raise LapaError(f"{folder}: holds no pictures (0.png, 1.png, …); remove it.")
    return [pictures[number] for number in sorted(pictures)]


def read_pictures(files: Iterable[Path]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield the name and the pixels of each file, uint8 grey [H, W] or RGB [H, W, 3]."""
    for path in files:
        content = path.read_bytes()
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) if _is_whole(content) else None
        if pixels is None:
            raise LapaError(f"{path}: cannot be decoded; it is damaged, or no PNG.")
        yield str(path), _as_rgb(path, pixels)


def write_pictures(folder: Path, pictures: Iterable[NDArray[np.uint8]]) -> None:
    """Write RGB pictures uint8 [H, W, 3] into `folder`, which is there, as 0.png, 1.png, …"""
    for number, picture in enumerate(pictures):
        done, encoded = cv2.imencode(SUFFIX, picture[..., ::-1])
        assert done
        (folder / f"{number}{SUFFIX}").write_bytes(encoded.tobytes())


def _is_whole(content: bytes) -> bool:
    """Whether this is a PNG whose parts are all there with the right checksums; libpng would print what is not."""
    place, name = len(SIGNATURE), b""
    while content.startswith(SIGNATURE) and name != b"IEND" and place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4])
        name, checked = content[place + 4 : place + 8], content[place + 4 : place + 8 + length]
        if zlib.crc32(checked) != int.from_bytes(content[place + 8 + length : place + 12 + length]):
            return False
        place += 12 + length
    return name == b"IEND"


def _as_rgb(path: Path, pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    if pixels.dtype != np.uint8:
        raise LapaError(f"{path}: has {8 * pixels.itemsize} bits a channel; save it with 8.")
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        if (pixels[..., 3] != 255).any():
            raise LapaError(f"{path}: is transparent in places; save it without an alpha channel.")
        pixels = pixels[..., :3]
    return (pixels if pixels.ndim == 2 else pixels[..., ::-1]).view(np.uint8)
