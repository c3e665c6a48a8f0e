"""Torsos of the Q-network: pictures in, flat features out. Lists of layers, so that the network may put more behind."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lapa_ray.core.errors import LapaError

KERNELS, STRIDES = (8, 4, 3), (4, 2, 1)
POOLED_SIZE = 6

Layers = tuple[list[nn.Module], int]
"""Layers, and how many features come out of the last one."""


def nature(num_channels: int, size: tuple[int, int], widths: Sequence[int]) -> Layers:
    """Three convolutions with `widths` output channels (Mnih et al. 2015), flattened.

    Raises `LapaError` for pictures smaller than what the convolutions span.
    """
    layers: list[nn.Module] = []
    height, width = size
    for (before, after), kernel, stride in zip(pairwise((num_channels, *widths)), KERNELS, STRIDES, strict=True):
        layers += [nn.Conv2d(before, after, kernel, stride), nn.ReLU()]
        height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
    if min(height, width) < 1:
        raise LapaError(
            f"observations of {size[0]}×{size[1]} pixels are too small for --network.torso nature; "
            "make them at least 36×36, or take impala_light."
        )
    return [*layers, nn.Flatten()], widths[-1] * height * width


def impala_light(num_channels: int, widths: Sequence[int]) -> Layers:
    """A residual network like IMPALA's (Espeholt et al. 2018) with one residual block a stage instead of two.

    Whatever the pictures' size, the last stage is max-pooled to 6×6, so the layers behind stay small.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise((num_channels, *widths)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.MaxPool2d(3, 2, padding=1), ResidualBlock(after)]
    return [*layers, nn.ReLU(), nn.AdaptiveMaxPool2d(POOLED_SIZE), nn.Flatten()], widths[-1] * POOLED_SIZE**2


class ResidualBlock(nn.Module):
    """x + two convolutions of x, with a ReLU before each."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        self.second = nn.Conv2d(num_channels, num_channels, 3, padding=1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Float [B, C, H, W] of the same shape."""
        inner: Tensor = self.second(F.relu(self.first(F.relu(inputs))))
        return inputs + inner
