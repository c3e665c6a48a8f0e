"""Controllability: how much worse the pictures get when codes are drawn at random, ΔPSNR_t.

By Bruce et al. 2024 (Genie). From a true frame, t steps are decoded from the codes that the encoder inferred, and again
from codes of other pairs, drawn evenly among all held-out ones but its own, anew for each step. ΔPSNR_t is the PSNR of
the first film's picture t minus that of the second's, and zero where codes have no effect. Genie averages it over
pictures; here squared error is pooled, as everywhere. Each film is decoded beside its own pictures. Knows the decoder
as a function alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lapa_ray.core.pictures import Screen, to_rgb
from lapa_ray.core.seeds import generator_for
from lapa_ray.evaluation.estimates import Array, Estimate, PooledRatio
from lapa_ray.evaluation.figures import Figure
from lapa_ray.evaluation.pixels import psnr_db
from lapa_ray.evaluation.reconstruction import Codes, Decoder, batches, chw
from lapa_ray.evaluation.rollouts import decoded_film

STEPS = 4
MARGIN_PX = 4
"""The player's box is so much wider on each side: sprites are drawn a pixel or two beside it."""
NOTE = (
    "PSNR of the picture after 4 steps decoded from the inferred codes, minus that from codes of other held-out pairs "
    "drawn at random (Bruce et al. 2024). Beside it the same of two random draws. "
)
INFLATED = "The decoder sees nothing of frame t, so a random code also gives another place and time, which adds to it."
BOX = "Within the player's box at the fourth step, 4 px wider on each side. "


@dataclass(frozen=True)
class Boxes:
    """Where the player is at each state: left and top int64 [T+1], px; known bool [T+1], whether it plays."""

    left: NDArray[np.int64]
    top: NDArray[np.int64]
    known: NDArray[np.bool_]
    width: int
    height: int


class ControllabilityMeter:
    """Squared errors after `STEPS` steps, by episode, of inferred codes and of two random draws."""

    def __init__(
        self, decode: Decoder, pool: Mapping[int, Codes], palette: NDArray[np.uint8], *, batch_size: int, seed: int = 0
    ) -> None:
        """`pool`: by episode the codes [T, P] of all held-out pairs, which random ones are drawn from."""
        self._decode, self._palette, self._batch, self._seed = decode, palette, batch_size, seed
        self._pool = np.concatenate(list(pool.values()))
        lengths = np.array([len(codes) for codes in pool.values()])
        self._first = dict(zip(pool, (lengths.cumsum() - lengths).tolist(), strict=True))
        self._gain, self._chance = (
            {"all": PooledRatio(), "player": PooledRatio()},
            {
                "all": PooledRatio(),
                "player": PooledRatio(),
            },
        )
        self._counts = {"all": 0, "player": 0}

    def update(
        self, episode_id: int, composites: Screen, codes: Codes, starts: NDArray[np.int64], boxes: Boxes | None
    ) -> None:
        """Count the films of one episode that start at frames `starts`: `composites` uint8 [T+1, H, W], `codes` [T, P].

        A start s needs s ≤ T − STEPS.
        """
        generator = generator_for(self._seed, "random codes", episode_id)
        for part in batches(starts, self._batch):
            frames = chw(to_rgb(composites[part], self._palette))
            true = chw(to_rgb(composites[part + STEPS], self._palette))
            steps = part[:, None] + np.arange(STEPS)
            own = np.stack([steps, steps]) + self._first[episode_id]
            inferred, drawn = codes[steps], self._pool[draw_others(own, len(self._pool), generator)]
            errors = [self._errors(film, frames, true) for film in (inferred, *drawn)]
            self._count("all", episode_id, [error.sum(axis=(1, 2)) for error in errors])
            if boxes is not None:
                self._count_boxes(episode_id, errors, part + STEPS, boxes)

    def figures(self, seed: int, *, sees_frame_t: bool) -> tuple[Figure, ...]:
        """ΔPSNR_4 of the whole picture and, where the player was known, of its box."""
        note = NOTE + ("" if sees_frame_t else INFLATED)
        named = (("all", "delta_psnr_4_db", "ΔPSNR₄", note), ("player", "delta_psnr_4_player_db", BOXED, BOX + note))
        return tuple(
            Figure(
                name=name,
                label=label,
                unit="dB",
                better="higher",
                estimate=self._estimate(self._gain[key], key, seed),
                baselines={"random_codes": self._estimate(self._chance[key], key, seed)},
                note=text,
            )
            for key, name, label, text in named
            if self._counts[key]
        )

    def _errors(self, codes: Codes, frames: Tensor, true: Tensor) -> Array:
        """Squared error of the last picture of a film, summed over colours, float64 [B, H, W]."""
        *_, last = decoded_film(self._decode, codes, frames)
        error = (last.to(torch.float64) - true.to(torch.float64)).square().sum(dim=1)
        return np.asarray(error.numpy())

    def _count_boxes(self, episode_id: int, errors: list[Array], states: NDArray[np.int64], boxes: Boxes) -> None:
        rows = [row for row, state in enumerate(states) if boxes.known[state]]
        sums = np.zeros((len(errors), len(rows)))
        for column, row in enumerate(rows):
            top, left = boxes.top[states[row]] - MARGIN_PX, boxes.left[states[row]] - MARGIN_PX
            height, width = boxes.height + 2 * MARGIN_PX, boxes.width + 2 * MARGIN_PX
            window = np.s_[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
            sums[:, column] = [error[row][window].sum() for error in errors]
        self._count("player", episode_id, list(sums))

    def _count(self, key: str, episode_id: int, sums: list[Array]) -> None:
        inferred, random, other = (float(part.sum()) for part in sums)
        self._gain[key].add(episode_id, random, inferred)
        self._chance[key].add(episode_id, other, random)
        self._counts[key] += len(sums[0])

    def _estimate(self, ratio: PooledRatio, key: str, seed: int) -> Estimate:
        """A ratio of errors is a difference of PSNRs; the sample is a film, not a squared level."""
        return ratio.estimate(decibels, seed).model_copy(update={"num_samples": self._counts[key]})


BOXED = "ΔPSNR₄ in the player's box"


def draw_others(own: NDArray[np.int64], count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """For each of the indices `own` another one below `count`, drawn evenly; `count` is 2 or more."""
    drawn = generator.integers(count - 1, size=own.shape)
    return drawn + (drawn >= own)


def decibels(ratio: Array) -> Array:
    """How much more PSNR the denominator's pictures have, dB, of a ratio of squared errors."""
    return psnr_db(np.ones_like(ratio)) - psnr_db(ratio)
