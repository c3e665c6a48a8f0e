"""Palette classes: pictures in any colours → at each pixel the nearest of those that the true pictures have there.

So a blurred picture is judged by what it would be taken for. Knows neither model nor game.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lapa_ray.core.pictures import Screen


def nearest_indices(
    rgb: Tensor, true: Sequence[Screen], palette: NDArray[np.uint8], bands: Sequence[tuple[int, int]]
) -> Screen:
    """The palette index of each pixel of `rgb` uint8 [B, 3, H, W], uint8 [B, H, W].

    Of the indices that any of the `true` pictures uint8 [B, H, W] of the same moment has in the same band the one whose
    colour is nearest, by squared distance in RGB; the lowest of equals. `bands`: first row and last + 1 of each part of
    the screen, which together are all of it.
    """
    parts = [_nearest(rgb[:, :, top:end], [picture[:, top:end] for picture in true], palette) for top, end in bands]
    return np.concatenate(parts, axis=1)


def _nearest(rgb: Tensor, true: Sequence[Screen], palette: NDArray[np.uint8]) -> Screen:
    allowed = np.zeros((len(rgb), 256), dtype=np.bool_)
    for pictures in true:
        for item, picture in enumerate(pictures):
            allowed[item] |= np.bincount(picture.ravel(), minlength=256) > 0
    candidates = np.flatnonzero(allowed.any(axis=0))
    colours = torch.from_numpy(palette[candidates].astype(np.float32))
    pixels = rgb.permute(0, 2, 3, 1).float().flatten(1, 2)
    # |p − c|² without |p|², which is the same for every c: a product of matrices, exact in float32 (below 2²⁴).
    offset = (colours**2).sum(dim=1) + torch.from_numpy(np.where(allowed[:, candidates], 0, np.inf)).float()
    nearest = torch.baddbmm(offset[:, None], pixels, colours.T.expand(len(pixels), -1, -1), alpha=-2).argmin(dim=-1)
    chosen: Screen = candidates[nearest.numpy()].astype(np.uint8).reshape(true[0].shape)
    return chosen
