"""F1 of marks: pictures of palette indices and places where dots or bricks can be → how well they show which are there.

A mark is shown if half of its pixels or more have its colour, which is the commonest one at those places where RAM says
that there is one. Knows no model: what it made comes as one more picture.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.pictures import Screen
from lapa_ray.envs.looks import Marks
from lapa_ray.evaluation.estimates import Estimate, PooledRatio

LEAST_SHARE = 0.5
NO_COLOUR = -1


class MarksF1:
    """Counts of one kind of marks, for each of several pictures of the same moment, by key."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._there = {key: PooledRatio() for key in keys}
        self._gone = {key: PooledRatio() for key in keys}

    def update(
        self, episode_id: int, marks: Marks, states: NDArray[np.int64], before: Screen, after: Screen,
        guesses: Mapping[str, Screen],
    ) -> None:  # fmt: skip
        """Count `guesses` at `after`, true pictures of `states`; all uint8 [B, H, W], `before` one step earlier."""
        told, judged = marks.told[states], marks.judged[states]
        colours = _colours(marks, told, _patches(marks, after))
        true, earlier = (_shown(marks, pictures, colours) & judged for pictures in (after, before))
        gone = earlier & ~true
        for key, pictures in guesses.items():
            shown = _shown(marks, pictures, colours) & judged
            self._there[key].add(episode_id, *_f1_terms(shown, true))
            self._gone[key].add(episode_id, *_f1_terms(earlier & ~shown, gone))

    def there(self, key: str, seed: int = 0) -> Estimate:
        """F1 of the marks that are shown."""
        return self._there[key].estimate(seed=seed)

    def gone(self, key: str, seed: int = 0) -> Estimate:
        """F1 of those that the picture before shows and this one does not."""
        return self._gone[key].estimate(seed=seed)


def _f1_terms(ours: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[int, int]:
    """Numerator and denominator of F1: twice the hits, and these with misses and false alarms."""
    return 2 * int((ours & truth).sum()), int(ours.sum()) + int(truth.sum())


def _patches(marks: Marks, pictures: Screen) -> Screen:
    """The pixels of each mark, [B, N, height · width]."""
    down, across = np.divmod(np.arange(marks.height * marks.width), marks.width)
    return pictures[:, marks.rows[:, None] + down, marks.columns[:, None] + across]


def _colours(marks: Marks, told: NDArray[np.bool_], patches: Screen) -> NDArray[np.int16]:
    """The colour of each mark if it is there, int16 [B, N]; `NO_COLOUR` where no mark of its group is told of."""
    colours = np.full(told.shape, NO_COLOUR, dtype=np.int16)
    for group in np.unique(marks.group):
        members = np.flatnonzero(marks.group == group)
        for item in np.flatnonzero(told[:, members].any(axis=1)):
            pixels = patches[item, members[told[item, members]]]
            colours[item, members] = np.bincount(pixels.ravel()).argmax()
    return colours


def _shown(marks: Marks, pictures: Screen, colours: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Which marks the pictures show, bool [B, N]."""
    return (_patches(marks, pictures) == colours[..., None]).mean(axis=2) >= LEAST_SHARE
