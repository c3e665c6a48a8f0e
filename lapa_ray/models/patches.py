"""Patches: small squares of pixels as the channels of one place, and back (Shi et al. 2016).

A network that starts and ends with patches has no features at the size of the picture, which on a CPU are what costs.
Where the size is no multiple of a patch's, the picture goes on in zeros.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


def to_patches(pictures: Tensor, size: int) -> Tensor:
    """[B, C, height, width] → [B, C·size², rows, columns], one place a patch of size × size pixels."""
    height, width = pictures.shape[-2:]
    return F.pixel_unshuffle(F.pad(pictures, (0, -width % size, 0, -height % size)), size)


def from_patches(patches: Tensor, size: int, shape: tuple[int, int]) -> Tensor:
    """[B, C·size², rows, columns] → [B, C, height, width] of `shape`; what lies beyond is cut off."""
    return F.pixel_shuffle(patches, size)[..., : shape[0], : shape[1]]


class ToPatches(nn.Module):
    """`to_patches` as a layer."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, pictures: Tensor) -> Tensor:
        """See `to_patches`."""
        return to_patches(pictures, self.size)
