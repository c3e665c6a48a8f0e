"""Pictures: palette look-ups, composites of the frames of one step, and the 84×84 grey observation.

Screens are uint8 palette indices [..., height, width]. RGB and grey are table look-ups away, lossless.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Screen = NDArray[np.uint8]
Composite = Literal["max4", "max2", "last"]
OBS_SIZE = 84

LUMINANCE = np.array([0.2989, 0.5870, 0.1140])
"""The weights of the ALE's own grey palette (ITU-R BT.601, four digits)."""


def grey_levels(palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey level of each palette index, uint8 [256], from `palette` uint8 [256, 3]; equals ALE's getScreenGrayscale."""
    return np.round(palette.astype(np.float64) @ LUMINANCE).astype(np.uint8)


def to_rgb(screens: Screen, palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB uint8 [..., height, width, 3] of palette indices; where the palette is empty, screens are RGB already."""
    return palette[screens] if len(palette) else screens


def changed(before: Screen, after: Screen, palette: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where pictures differ, bool [..., height, width]; where the palette is empty, they are RGB."""
    differ = before != after
    return differ if len(palette) else differ.any(axis=-1)


def luminance_ranks(palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Rank of each palette index by luminance, uint8 [256], a permutation: ties are broken by index."""
    order = np.argsort(palette.astype(np.float64) @ LUMINANCE, kind="stable")
    ranks = np.empty(len(palette), dtype=np.uint8)
    ranks[order] = np.arange(len(palette), dtype=np.uint8)
    return ranks


class Compositor:
    """Makes one picture of the frames of a step: per pixel the palette index of greatest luminance.

    `max4`, the default, shows all four flickering ghosts; `last` is the last frame alone; `max2` the usual last two.
    The greatest *index* would not do: the floor's index 144 would erase sprites.
    """

    FRAMES: dict[str, int] = {"max4": 4, "max2": 2, "last": 1}  # noqa: RUF012

    def __init__(self, palette: NDArray[np.uint8], composite: Composite = "max4") -> None:
        self.ranks = luminance_ranks(palette)
        self.by_rank = np.argsort(self.ranks).astype(np.uint8)
        self.num_frames = self.FRAMES[composite]

    def __call__(self, screens: Screen) -> Screen:
        """Composite [height, width] of `screens` [n, height, width], n ≥ 1, oldest first."""
        picture = np.empty(screens.shape[1:], dtype=np.uint8)
        self.into(picture, screens)
        return picture

    def into(self, picture: Screen, screens: Screen) -> None:
        """Write the composite into `picture` [height, width], contiguous."""
        last = screens[-self.num_frames :]
        picture[:] = last[-1]
        if len(last) == 1:
            return
        # Few pixels differ between the frames of a step, and only those need ranks: twice as fast as ranking all.
        words = _words(last)
        differ = words[0] != words[-1]
        for between in words[1:-1]:
            differ |= between != words[-1]
        where = np.flatnonzero(differ)
        ranks = self.ranks[np.take(words, where, axis=1).view(np.uint8)]
        picture.reshape(-1).view(words.dtype)[where] = self.by_rank[ranks.max(axis=0)].view(words.dtype)


class RgbCompositor:
    """The same of RGB screens: per pixel the colour of greatest luminance, of equals that of the last frame."""

    def __init__(self, composite: Composite = "max4") -> None:
        self.num_frames = Compositor.FRAMES[composite]

    def __call__(self, screens: Screen) -> Screen:
        """Composite [height, width, 3] of `screens` [n, height, width, 3], n ≥ 1, oldest first."""
        picture = np.empty(screens.shape[1:], dtype=np.uint8)
        self.into(picture, screens)
        return picture

    def into(self, picture: Screen, screens: Screen) -> None:
        """Write the composite into `picture` [height, width, 3]."""
        last = screens[-self.num_frames :][::-1]  # newest first: `argmax` takes the first of equals
        picture[:] = last[0]
        differ = (last != last[0]).any(axis=(0, -1))
        pixels = last[:, differ]
        brightest = np.argmax(pixels @ LUMINANCE, axis=0)
        picture[differ] = pixels[brightest, np.arange(len(brightest))]


def compositor_for(palette: NDArray[np.uint8], composite: Composite = "max4") -> Compositor | RgbCompositor:
    """The compositor of palette indices; where the palette is empty, of RGB."""
    return Compositor(palette, composite) if len(palette) else RgbCompositor(composite)


def _words(screens: Screen) -> NDArray[np.unsignedinteger]:
    """The pixels of each screen in a row, eight to a word where they come out even."""
    flat = np.ascontiguousarray(screens).reshape(len(screens), -1)
    return flat.view(np.uint64) if flat.shape[1] % 8 == 0 else flat


def shrink(picture: NDArray[np.uint8], height: int = OBS_SIZE, width: int = OBS_SIZE) -> NDArray[np.uint8]:
    """`picture` uint8 [H, W] or [H, W, 3] as [height, width(, 3)]: area averages, as the usual wrappers."""
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
