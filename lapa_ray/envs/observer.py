"""The observer: the last two screens of each step in, the observation out. What stayed the same is not made anew.

An observation is the pixel-wise maximum of the last two frames in grey or RGB, shrunk by area averages: bit for bit
that of Gymnasium's AtariPreprocessing. It falls into bands, rows of the screen that shrink to whole rows (five to two
in most games); from one step to the next a quarter of them change, and only those are looked up and shrunk.
"""

from __future__ import annotations

from math import gcd

import cv2
import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.pictures import Screen, grey_levels, shrink
from lapa_ray.envs.environment import Observation

OBS_FRAMES = 2
"""An observation is the pixel-wise maximum of the last two frames (Mnih et al. 2015)."""


class Observer:
    """Makes the observations of one environment, in the order of its steps."""

    def __init__(self, palette: NDArray[np.uint8], height: int, width: int, shape: tuple[int, ...]) -> None:
        """Screens are [height, width] indices of `palette`; `shape` is (size, size), or (size, size, 3) for RGB."""
        self._table = grey_levels(palette) if len(shape) == 2 else np.ascontiguousarray(palette[None])
        self._width, self._size = width, shape[0]
        self._num_bands = _num_bands(height, self._size)
        band_bytes = height // self._num_bands * width
        self._word = np.dtype(np.uint64 if band_bytes % 8 == 0 else np.uint8)
        self._obs = np.zeros(shape, dtype=np.uint8)
        self._obs_bands = self._obs.reshape(self._num_bands, -1)
        self._rows_a_band = self._size // self._num_bands
        self._seen: NDArray[np.unsignedinteger] | None = None
        # Filled anew each time: beside an emulator, which takes the caches, every array made anew costs.
        num_words = band_bytes // self._word.itemsize
        self._differ = np.empty((OBS_FRAMES, self._num_bands, num_words), dtype=np.bool_)

    def __call__(self, screens: Screen) -> Observation:
        """The observation after a step whose screens are uint8 [n, height, width], n ≥ 1, contiguous; of them the last
        two count.

        The caller must not write to `screens` again: the next ones are compared with them.
        """
        pair = screens[-OBS_FRAMES:] if len(screens) > 1 else np.repeat(screens, OBS_FRAMES, axis=0)
        words = pair.reshape(OBS_FRAMES, self._num_bands, -1).view(self._word)
        changed = self._changed(words)
        if len(changed):
            self._remake(words, changed)
        self._seen = words
        return self._obs.copy()

    def _changed(self, words: NDArray[np.unsignedinteger]) -> NDArray[np.intp]:
        """The bands in which either screen differs from its forerunner."""
        if self._seen is None:
            return np.arange(self._num_bands)
        first, last = np.not_equal(words, self._seen, out=self._differ)
        return np.logical_or.reduce(np.logical_or(first, last, out=first), axis=1).nonzero()[0]

    def _remake(self, words: NDArray[np.unsignedinteger], changed: NDArray[np.intp]) -> None:
        rows = words.take(changed, axis=1).view(np.uint8).reshape(-1, self._width)
        shown, half = self._look_up(rows), len(rows) // OBS_FRAMES
        brightest = cv2.max(shown[:half], shown[half:])
        small = shrink(brightest, len(changed) * self._rows_a_band, self._size)
        self._obs_bands[changed] = small.reshape(len(changed), -1)

    def _look_up(self, rows: Screen) -> NDArray[np.uint8]:
        """Grey levels or RGB of palette indices."""
        return cv2.LUT(rows if self._table.ndim == 1 else cv2.merge([rows] * 3), self._table)


def _num_bands(height: int, size: int) -> int:
    """Into how many bands the rows fall that shrink apart to the very numbers that they shrink to together.

    One, unless a row of the observation is a whole number of half rows: only such weights are exact in every band.
    """
    return gcd(height, size) if 2 * height % size == 0 else 1
