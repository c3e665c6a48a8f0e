"""Codes of pairs of screens: what a VQ-VAE, on whatever device it is, says of pictures as they are stored."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from lapa_ray.core.pictures import Screen
from lapa_ray.models.colour import PaletteRgb
from lapa_ray.models.vqvae import Vqvae

BATCH = 64


def codes_of(
    model: Vqvae, palette: PaletteRgb, composites: Screen, steps: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Codes [n, tokens] of the n pairs `steps` of an episode, or of all T: `composites` uint8 [T+1, H, W].

    `palette` is on the model's device, and of its `colour`; the model is in eval mode.
    """
    steps = np.arange(len(composites) - 1) if steps is None else steps
    codes = [_codes(model, palette, composites, steps[start : start + BATCH]) for start in range(0, len(steps), BATCH)]
    return np.concatenate(codes) if codes else np.zeros((0, model.config.num_tokens), np.int64)


def _codes(model: Vqvae, palette: PaletteRgb, composites: Screen, steps: NDArray[np.int64]) -> NDArray[np.int64]:
    device = palette.table.device
    pair = (palette(torch.from_numpy(composites[at]).to(device)).expand(-1, 3, -1, -1) for at in (steps, steps + 1))
    codes: NDArray[np.int64] = model.encode_pair(*pair).cpu().numpy()
    return codes
