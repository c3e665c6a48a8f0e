"""Patches: small squares of pixels as the channels of one place, and back (Shi et al. 2016).

A network that ends with patches has no features at the size of the picture, which on a CPU are what costs. Where the
size is no multiple of a patch's, the picture goes on in zeros.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def to_patches(pictures: Tensor, size: int) -> Tensor:
    """[B, C, height, width] → [B, C·size², rows, columns], one place a patch of size × size pixels."""
    height, width = pictures.shape[-2:]
    return F.pixel_unshuffle(F.pad(pictures, (0, -width % size, 0, -height % size)), size)


def from_patches(patches: Tensor, size: int, shape: tuple[int, int]) -> Tensor:
    """[B, C·size², rows, columns] → [B, C, height, width] of `shape`; what lies beyond is cut off."""
    return F.pixel_shuffle(patches, size)[..., : shape[0], : shape[1]]
