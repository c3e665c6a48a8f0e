"""Sign reading: pictures of palette indices and cells that show signs (digits, icons) → whether they read as the truth.

The signs to choose among are those that stood in any of the cells for two true pictures of the episode in a row; of
these a cell reads as the one from which the fewest pixels differ. A true cell that is none of them (a digit that just
changes is drawn over the one before, in a composite) is not asked about. Knows no model: what it made comes as one
more picture.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.pictures import Screen
from lapa_ray.envs.looks import Cells
from lapa_ray.evaluation.estimates import Estimate, PooledRatio


class SignReading:
    """Counts of one row of cells, for each of several pictures of the same moment, by key."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._right = {key: PooledRatio() for key in keys}
        self._right_changed = {key: PooledRatio() for key in keys}

    def update(
        self, episode_id: int, cells: Cells, signs: NDArray[np.uint8], before: Screen, after: Screen,
        guesses: Mapping[str, Screen],
    ) -> None:  # fmt: skip
        """Count `guesses` at `after`, true pictures; all uint8 [B, H, W], `before` one step earlier; see `signs_in`."""
        if not len(signs):
            return
        truth, earlier = crops(cells, after), crops(cells, before)
        value, misfit = _read(truth, signs)
        asked, changed = misfit == 0, (truth != earlier).any(axis=-1)
        for key, pictures in guesses.items():
            right = _read(crops(cells, pictures), signs)[0] == value
            self._right[key].add(episode_id, int((right & asked).sum()), int(asked.sum()))
            moved = asked & changed
            self._right_changed[key].add(episode_id, int((right & moved).sum()), int(moved.sum()))

    def right(self, key: str, seed: int = 0) -> Estimate:
        """Share of cells that read as the truth."""
        return self._right[key].estimate(seed=seed)

    def right_changed(self, key: str, seed: int = 0) -> Estimate:
        """The same of the cells that differ from the true picture before."""
        return self._right_changed[key].estimate(seed=seed)


def signs_in(cells: Cells, composites: Screen) -> NDArray[np.uint8]:
    """The signs that stand still in `composites` uint8 [T, H, W] of an episode, uint8 [S, height · width]."""
    seen = crops(cells, composites)
    still = seen[1:][(seen[1:] == seen[:-1]).all(axis=-1)]
    return np.unique(still, axis=0)


def crops(cells: Cells, pictures: Screen) -> Screen:
    """What stands in each cell, uint8 [B, cells, height · width]."""
    rows = slice(cells.top, cells.top + cells.height)
    parts = [pictures[:, rows, left : left + cells.width] for left in cells.lefts]
    return np.stack([part.reshape(len(pictures), -1) for part in parts], axis=1)


def _read(seen: Screen, signs: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Number of the sign that is nearest to what each cell shows, and how many pixels differ; each [B, cells]."""
    misfits = np.stack([(seen != sign).sum(axis=-1) for sign in signs], axis=-1)
    nearest = misfits.argmin(axis=-1)
    return nearest, misfits.min(axis=-1)
