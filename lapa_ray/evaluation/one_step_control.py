"""One-step control: ΔPSNR after one step, cheap enough for every validation, so that a sweep can tell actions apart.

A few pairs of each batch are decoded again from the codes of other pairs. What codes that are actions decide is what
moves: random ones cost PSNR on the pixels that change, and leave the others alone. What codes that are tokens of a
whole picture decide is all of it. So both are told (after Bruce et al. 2024, who measure ΔPSNR over whole pictures).
Knows the decoder as a function alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lapa_ray.core.seeds import generator_for
from lapa_ray.evaluation.controllability import decibels, draw_others
from lapa_ray.evaluation.pixels import to_8bit

EVERY = 8
"""Of each batch one pair in so many is decoded again."""
CONTROL_FIGURES = ("delta_changed_psnr_db", "delta_still_psnr_db")


class OneStepControl:
    """Squared errors of inferred and of random codes, on pixels that change and on those that do not."""

    def __init__(self, decode: Callable[[Tensor, Tensor], Tensor]) -> None:
        """`decode`: codes int64 [B, P] and frame t, RGB float [B, 3, H, W] in [−1, 1] → frame t+1 likewise."""
        self._decode, self._generator = decode, generator_for(0, "one-step control")
        self._seen: list[NDArray[np.integer]] = []
        self._ends: list[int] = []
        self._errors = np.zeros((2, 2))

    def update(self, codes: Tensor, frame_t: Tensor, predicted: Tensor, true: Tensor, changed: Tensor) -> None:
        """Count a batch: `codes` [B, P], `frame_t` float, `predicted` from these codes and `true` uint8 [B, 3, H, W].

        `changed` bool [B, H, W]. Random codes are drawn from all other pairs seen so far.
        """
        first = self._ends[-1] if self._ends else 0
        self._seen.append(codes.cpu().numpy())
        self._ends.append(first + len(codes))
        part = slice(None, None, EVERY)
        random = torch.from_numpy(self._random_codes(first + np.arange(len(codes))[part])).to(codes.device)
        other = to_8bit(self._decode(random, frame_t[part]))
        for row, picture in enumerate((predicted[part], other)):
            squared = (picture.float() - true[part].float()).square().sum(dim=1).cpu()  # MPS knows no float64
            moved = changed[part].cpu()
            self._errors[row] += [float(squared[where].double().sum()) for where in (moved, ~moved)]

    def _random_codes(self, own: NDArray[np.int64]) -> NDArray[np.integer]:
        """For each of the pairs `own` codes, together [n, P], of another one that was seen; its own if it is alone."""
        drawn = draw_others(own, self._ends[-1], self._generator) if self._ends[-1] > 1 else own
        batches = np.searchsorted(self._ends, drawn, side="right")
        pairs = zip(batches.tolist(), drawn.tolist(), strict=True)
        return np.stack([self._seen[batch][place - self._ends[batch]] for batch, place in pairs])

    def figures(self) -> dict[str, float]:
        """ΔPSNR, dB, on pixels that change and on those that do not; not-a-number where there were none."""
        inferred, random = self._errors
        with np.errstate(divide="ignore", invalid="ignore"):
            gains = decibels(random / inferred)
        return {
            name: float(gain) if np.isfinite(gain) else float("nan")
            for name, gain in zip(CONTROL_FIGURES, gains, strict=True)
        }
