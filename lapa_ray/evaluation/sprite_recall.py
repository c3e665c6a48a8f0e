"""Sprite recall: pictures of palette indices and where RAM says a sprite is → whether they show it, and how far off.

A sprite is looked for in a window around its box, by its colours. It is shown by the true picture if enough pixels
there have them, and found in another if that has between a third and three times as many; how far off is the
distance of the two centroids. Knows no model: what it made comes as one more picture.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.pictures import Screen
from lapa_ray.envs.looks import Sought
from lapa_ray.evaluation.estimates import Estimate, PooledRatio

REACH_PX = 10
"""How far beyond a sprite's box it is looked for: it moves 4 px a step, and a composite smears it over as many."""
TOLERANCES_PX = (1, 2)
RECALL = f"_recall_{TOLERANCES_PX[-1]}px"
"""How names of figures end that are the share of a sprite's appearances found so near; before it the sprite's name."""
MOVED_PX = 2.0
"""A sprite whose centroid goes farther than this in the step has moved."""
LEAST_SHARE, MOST_SHARE = 1 / 3, 3.0
"""Fewer or more of its pixels than this, seen from the true picture, are no sprite but its remains, or a smear."""
TOO_COMMON_PIXELS = 300
"""Floor, walls and all dots together have more pixels than this, no fruit has."""

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


class SpriteRecall:
    """Counts of one sprite, for each of several pictures of the same moment, by key."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._within = {(key, px): PooledRatio() for key in keys for px in TOLERANCES_PX}
        self._moved = {key: PooledRatio() for key in keys}
        self._error = {key: PooledRatio() for key in keys}
        self.shown = PooledRatio()
        """Share of the moments at which it is looked for in which the true picture shows it."""

    def update(
        self, episode_id: int, sought: Sought, states: NDArray[np.int64], before: Screen, after: Screen,
        guesses: Mapping[str, Screen],
    ) -> None:  # fmt: skip
        """Count `guesses` at `after`, true pictures of `states`; all uint8 [B, H, W], `before` one step earlier."""
        kept = np.flatnonzero(sought.wanted[states])
        if not len(kept):
            return
        states, before, after = states[kept], before[kept], after[kept]
        colours = _colours(sought, states, after)
        true, earlier = (_blobs(sought, states, pictures, colours) for pictures in (after, before))
        shown = true.count >= sought.least_pixels
        self.shown.add(episode_id, int(shown.sum()), len(shown))
        moved = shown & (earlier.count >= sought.least_pixels) & (true.distance(earlier) > MOVED_PX)
        for key, pictures in guesses.items():
            blobs = _blobs(sought, states, pictures[kept], colours)
            found = shown & (blobs.count >= LEAST_SHARE * true.count) & (blobs.count <= MOST_SHARE * true.count)
            distance = true.distance(blobs)
            for px in TOLERANCES_PX:
                self._within[key, px].add(episode_id, int((found & (distance <= px)).sum()), int(shown.sum()))
            near = found & (distance <= TOLERANCES_PX[-1])
            self._moved[key].add(episode_id, int((near & moved).sum()), int(moved.sum()))
            self._error[key].add(episode_id, float(distance[found].sum()), int(found.sum()))

    def recall(self, key: str, tolerance_px: int, seed: int = 0) -> Estimate:
        """Share of the moments at which it is shown in which the picture has it at most so far off."""
        return self._within[key, tolerance_px].estimate(seed=seed)

    def moved_recall(self, key: str, seed: int = 0) -> Estimate:
        """The same within 2 px, of the moments before which it moved by more."""
        return self._moved[key].estimate(seed=seed)

    def position_error(self, key: str, seed: int = 0) -> Estimate:
        """Mean distance where it was found, px."""
        return self._error[key].estimate(seed=seed)


class _Blobs:
    """The pixels of given colours in a window of each picture: how many, and their centroid."""

    def __init__(self, mask: Bools) -> None:
        self.count = mask.sum(axis=(1, 2))
        down, across = np.arange(mask.shape[1]), np.arange(mask.shape[2])
        self._row = mask.sum(axis=2) @ down / np.maximum(self.count, 1)
        self._column = mask.sum(axis=1) @ across / np.maximum(self.count, 1)

    def distance(self, other: _Blobs) -> Floats:
        """From centroid to centroid, px; infinite where either has none."""
        apart = np.hypot(self._row - other._row, self._column - other._column)
        return np.where((self.count > 0) & (other.count > 0), apart, np.inf)


def _blobs(sought: Sought, states: NDArray[np.int64], pictures: Screen, colours: NDArray[np.bool_]) -> _Blobs:
    window, inside = _window(sought, states, pictures, REACH_PX)
    return _Blobs(np.take_along_axis(colours, window.reshape(len(window), -1), axis=1).reshape(window.shape) & inside)


def _window(sought: Sought, states: NDArray[np.int64], pictures: Screen, reach: int) -> tuple[Screen, Bools]:
    """What `pictures` show in and `reach` px around the sprite's box, [B, h, w], and where that is allowed."""
    rows = sought.top[states].astype(np.int64)[:, None] + np.arange(-reach, sought.height + reach)
    columns = sought.left[states].astype(np.int64)[:, None] + np.arange(-reach, sought.width + reach)
    height, width = pictures.shape[1:]
    right_rows = (rows >= max(0, sought.rows[0])) & (rows < min(height, sought.rows[1]))
    right_columns = (columns >= max(0, sought.columns[0])) & (columns < min(width, sought.columns[1]))
    items = np.arange(len(pictures))[:, None, None]
    seen = pictures[items, rows.clip(0, height - 1)[:, :, None], columns.clip(0, width - 1)[:, None, :]]
    return seen, right_rows[:, :, None] & right_columns[:, None, :]


def _colours(sought: Sought, states: NDArray[np.int64], true: Screen) -> Bools:
    """Which indices are the sprite's at each moment, bool [B, 256]."""
    chosen = np.zeros((len(true), 256), dtype=np.bool_)
    if sought.colours:
        chosen[:, list(sought.colours)] = True
        return chosen
    box, inside = _window(sought, states, true, 0)
    first, last = sought.rows
    for item, picture in enumerate(true):
        counts = np.bincount(box[item][inside[item]], minlength=256)
        counts[np.bincount(picture[first:last].ravel(), minlength=256) > TOO_COMMON_PIXELS] = 0
        counts[list(sought.others)] = 0
        chosen[item, counts.argmax()] = counts.any()
    return chosen
