"""Leakage: what a linear probe reads from codes: where the player is, and how it moved.

Codes that are actions say how the player moves and not where it is; codes that are tokens of a picture say where. The
probe is ridge regression on the one-hot codes of all grid positions, fitted on training episodes, measured on held-out
ones: R² = 1 − squared error over the squared distance from the training mean, so the mean itself has 0. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack

from lapa_ray.evaluation.estimates import Array, Estimate, PooledRatio
from lapa_ray.evaluation.figures import Figure
from lapa_ray.evaluation.reconstruction import Codes
from lapa_ray.evaluation.walks import Walk

RIDGES = (1.0, 10.0, 100.0)
"""Weights of the squared coefficients, of which cross-validation over training episodes takes one."""
NUM_FOLDS = 3
MIN_STEPS = 50
"""Fewer steps of training, or held out, are not measured."""
PLACE, MOVE = slice(0, 2), slice(2, 4)
CELLS, CELL_PX = (7, 5), (30, 32)
"""Rows and columns of the grid of most tokens, and the height and width of one of its cells, px."""


@dataclass(frozen=True)
class ProbeEpisode:
    """Steps of one episode: codes [n, P]; targets float64 [n, 4], the player's place after each and its move, px."""

    episode_id: int
    codes: Codes
    targets: Array

    @classmethod
    def of(cls, episode_id: int, codes: Codes, walk: Walk, steps: NDArray[np.int64]) -> Self:
        """`codes` [n, P] of the n `steps` of the episode of `walk`."""
        places = np.stack([walk.boxes.left[steps + 1], walk.boxes.top[steps + 1]], axis=1)
        return cls(episode_id, codes, np.concatenate([places, walk.moved[steps]], axis=1).astype(np.float64))


def leakage_figures(
    training: list[ProbeEpisode], held_out: list[ProbeEpisode], codebook_size: int, seed: int
) -> tuple[Figure, ...]:
    """R² of the player's place and of its move; none where there are too few steps."""
    if min(_count(training), _count(held_out)) < MIN_STEPS:
        return ()
    mean = np.concatenate([part.targets for part in training]).mean(axis=0)
    held_codes = [one_hot(part.codes, codebook_size) for part in held_out]
    guesses = [np.broadcast_to(mean, part.targets.shape) for part in held_out]
    of_codes = _predictions([one_hot(part.codes, codebook_size) for part in training], training, held_codes)
    of_cells = _predictions([_cells(part) for part in training], training, [_cells(part) for part in held_out])

    def r2(predicted: list[Array], part: slice) -> Estimate:
        return _r2(predicted, held_out, mean, part, seed)

    return (
        Figure(
            name="leakage_r2",
            label="Leakage: the player's place read from the codes, R²",
            unit="",
            better="neither",
            estimate=r2(of_codes, PLACE),
            baselines={"mean_place": r2(guesses, PLACE)},
            num_fitted=_count(training),
            references={"cell_probe": r2(of_cells, PLACE)},
            note="By ridge regression, fitted on training episodes. 1: codes say where the player is, as tokens of a "
            "picture must; 0: they do not, as actions should not.",
        ),
        Figure(
            name="movement_r2",
            label="The player's move read from the codes, R²",
            unit="",
            better="higher",
            estimate=r2(of_codes, MOVE),
            baselines={"mean_place": r2(guesses, MOVE)},
            num_fitted=_count(training),
            note="The same probe, asked how far the player went right and down in the step.",
        ),
    )


def one_hot(codes: Codes, codebook_size: int) -> csr_matrix:
    """Codes [n, P] as 0 and 1, float32 [n, P · codebook_size]."""
    count, positions = codes.shape
    columns = codes.astype(np.int64) + np.arange(positions) * codebook_size
    rows = np.repeat(np.arange(count), positions)
    ones = np.ones(codes.size, dtype=np.float32)
    return csr_matrix((ones, (rows, columns.ravel())), shape=(count, positions * codebook_size))


def _cells(part: ProbeEpisode) -> csr_matrix:
    """Which cell of `CELLS` the player is in, as codes that say just that would."""
    (rows, columns), (height, width) = CELLS, CELL_PX
    column = np.clip(part.targets[:, 0] // width, 0, columns - 1)
    row = np.clip(part.targets[:, 1] // height, 0, rows - 1)
    return one_hot((row * columns + column).astype(np.int64)[:, None], rows * columns)


def _predictions(features: list[csr_matrix], training: list[ProbeEpisode], held_out: list[csr_matrix]) -> list[Array]:
    """What the probe that was fitted on training features reads from those of each held-out episode, [n, 4]."""
    # scikit-learn takes most of a second to import, which every training would pay for.
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold, KFold

    episodes = np.repeat(np.arange(len(training)), [len(part.codes) for part in training])
    grouped = len(training) >= NUM_FOLDS
    folds = GroupKFold(NUM_FOLDS).split(episodes, groups=episodes) if grouped else KFold(NUM_FOLDS).split(episodes)
    splits = list(folds)
    probe = RidgeCV(RIDGES, cv=splits).fit(
        vstack(features).tocsr(), np.concatenate([part.targets for part in training])
    )
    return [np.asarray(probe.predict(part), dtype=np.float64) for part in held_out]


def _r2(predicted: list[Array], held_out: list[ProbeEpisode], mean: Array, part: slice, seed: int) -> Estimate:
    """Mean R² of the two coordinates `part`, each in units of its own spread, with its interval over episodes."""
    true = np.concatenate([episode.targets for episode in held_out])[:, part]
    spread = np.maximum(((true - mean[part]) ** 2).mean(axis=0), 1e-12)
    errors = PooledRatio()
    for episode, guess in zip(held_out, predicted, strict=True):
        squared = ((guess - episode.targets)[:, part] ** 2 / spread).sum()
        around = ((episode.targets[:, part] - mean[part]) ** 2 / spread).sum()
        errors.add(episode.episode_id, float(squared), float(around))
    return errors.estimate(lambda ratio: 1 - ratio, seed).model_copy(update={"num_samples": len(true)})


def _count(parts: list[ProbeEpisode]) -> int:
    return sum(len(part.codes) for part in parts)
