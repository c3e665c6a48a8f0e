"""Exhibits: the pictures that the report shows, chosen by stated rules, and the file that carries them there.

Pictures are chosen by how much of the frame changes, never by how well a model does on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lapa_ray.evaluation.array_files import load_arrays, save_arrays

PAIR_QUANTILES: dict[str, float] = {"still": 0.05, "typical": 0.5, "moving": 0.95, "most changed": 1.0}
"""Name to quantile of the number of changed pixels among all held-out pairs."""
PAIR_RULE = (
    "Of all held-out pairs, ordered by how many pixels change from frame t to frame t+1, those at the 5th, 50th, 95th "
    "and 100th percentile."
)
STRIP_RULE = (
    "Of all measured rollouts, the one whose last true frame differs from the last frame seen in a median number of "
    "pixels."
)

Rgb = NDArray[np.uint8]


@dataclass(frozen=True)
class Exhibits:
    """Arrays of `pictures.npz`. Pictures are RGB uint8 [..., H, W, 3]."""

    pair_names: NDArray[np.str_]
    """[n], keys of `PAIR_QUANTILES`."""
    pair_episodes: NDArray[np.int64]
    """[n]."""
    pair_steps: NDArray[np.int64]
    """[n], t of the pair."""
    pair_changed_pixels: NDArray[np.int64]
    """[n]."""
    pair_before: Rgb
    """[n, H, W, 3]: true frame t."""
    pair_after: Rgb
    """[n, H, W, 3]: true frame t+1."""
    pair_reconstructed: Rgb
    """[n, H, W, 3]: frame t+1 decoded from the codes of the pair."""
    strip_start: NDArray[np.int64]
    """[2]: episode and first predicted step of the rollout; [0] if there is none."""
    strip_seen: Rgb
    """[1, H, W, 3]: the last true frame that the rollout saw."""
    strip_horizons: NDArray[np.int64]
    """[k], steps ahead."""
    strip_actions: NDArray[np.str_]
    """[k], the action of that step."""
    strip_true: Rgb
    """[k, H, W, 3]."""
    strip_imagined: Rgb
    """[k, H, W, 3]."""
    code_counts: NDArray[np.int64]
    """[positions, codebook_size]: held-out tokens by grid position."""
    recorded_returns: NDArray[np.float64]
    """[E], raw score of each recorded episode."""
    random_returns: NDArray[np.float64]
    """[R], raw score of each episode of random play."""

    def save(self, path: Path) -> None:
        """Write `path`, compressed, by rename."""
        save_arrays(path, vars(self))

    @classmethod
    def load(cls, path: Path) -> Exhibits:
        """Read `path`. Raises `LapaError` if it is damaged."""
        return load_arrays(path, cls)


def choose_pairs(changed_pixels: dict[int, NDArray[np.int64]]) -> dict[str, tuple[int, int]]:
    """Name to (episode, step) of the pairs at `PAIR_QUANTILES`, from the changed pixels of each pair by episode.

    The earliest of equals; a pair that two rules choose is shown once.
    """
    episodes = np.concatenate([np.full(len(counts), episode) for episode, counts in changed_pixels.items()])
    steps = np.concatenate([np.arange(len(counts)) for counts in changed_pixels.values()])
    order = np.argsort(np.concatenate(list(changed_pixels.values())), kind="stable")
    chosen: dict[str, tuple[int, int]] = {}
    for name, quantile in PAIR_QUANTILES.items():
        index = order[round(quantile * (len(order) - 1))]
        pair = (int(episodes[index]), int(steps[index]))
        if pair not in chosen.values():
            chosen[name] = pair
    return chosen


def median_rollout(changed_pixels: list[tuple[int, int, int]]) -> tuple[int, int]:
    """(episode, start) of the rollout of median change, from (changed pixels, episode, start) of each."""
    _, episode, start = sorted(changed_pixels)[len(changed_pixels) // 2]
    return episode, start


def strip_horizons(horizon: int) -> tuple[int, ...]:
    """The horizons that a film strip shows: at most five, closer together at the start."""
    return tuple(sorted({h for h in (1, 2, 4, 8) if h < horizon} | {horizon}))
