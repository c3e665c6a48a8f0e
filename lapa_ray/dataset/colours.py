"""Which palette says the colours of imported pictures exactly: RGB in, palette indices out, or nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

GREY = "grey"


def grey_palette() -> NDArray[np.uint8]:
    """The 256 levels of grey, uint8 [256, 3]: grey pictures are their own indices."""
    return np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


class Indexer:
    """RGB → the indices of one palette. Of indices with one colour the lowest even one: the ALE shows hardly others."""

    def __init__(self, palette: NDArray[np.uint8]) -> None:
        """`palette` uint8 [256, 3]."""
        self.palette = palette
        self._table = np.zeros(2**24, dtype=np.uint8)
        order = np.r_[255:0:-2, 254:-1:-2]  # what is written last counts: even indices, the lowest at the end
        self._table[_number(palette[order])] = order

    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """Indices uint8 [H, W] of a picture uint8 [H, W, 3], or None if the palette lacks one of its colours."""
        indices = self._table[_number(rgb)]
        return indices if np.array_equal(self.palette[indices], rgb) else None


class ColourSurvey:
    """Goes through pictures and keeps the palettes that say all of them exactly."""

    def __init__(self, palettes: Mapping[str, NDArray[np.uint8]]) -> None:
        """`palettes` by name, the first that fits is taken; `grey` comes after them."""
        self.fitting = {name: Indexer(palette) for name, palette in {**palettes, GREY: grey_palette()}.items()}

    def add(self, rgb: NDArray[np.uint8]) -> None:
        """Look at a picture uint8 [H, W, 3]."""
        self.fitting = {name: indexer for name, indexer in self.fitting.items() if indexer(rgb) is not None}


def _number(rgb: NDArray[np.uint8]) -> NDArray[np.uint32]:
    red, green, blue = (rgb[..., channel].astype(np.uint32) for channel in range(3))
    number: NDArray[np.uint32] = (red << np.uint32(16)) | (green << np.uint32(8)) | blue
    return number
