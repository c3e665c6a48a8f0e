"""The way down from a picture to a grid: stride-2 convolutions through one ladder of sizes, perhaps after patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

LADDER = ((210, 160), (105, 80), (53, 40), (27, 20), (14, 10), (7, 5), (4, 3), (2, 2), (1, 1))
"""Heights and widths that convolutions of kernel 3, padding 1 and stride 2 lead through."""


@dataclass(frozen=True)
class Way:
    """Channels of each step down, heights and widths from the picture (first) to the grid (last), which are one more,
    and the pixels a side of the patches that the first step cuts pictures into; 1 without.
    """

    widths: Sequence[int]
    sizes: Sequence[tuple[int, int]]
    patch: int = 1


def encoder_stack(num_channels: int, way: Way, out: int) -> nn.Sequential:
    """Pictures of `num_channels` all the `way` down, then to `out` channels."""
    layers: list[nn.Module] = []
    channels = num_channels
    for number, width in enumerate(way.widths):
        # No bias before a normalisation that would take it away again.
        if number == 0 and way.patch > 1:
            layers.append(_patches(channels, width, way))
        else:
            layers.append(nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False))
        layers += [nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.Conv2d(channels, out, 1))


def _patches(channels: int, width: int, way: Way) -> nn.Conv2d:
    """One place a patch: as if pixels became channels, of which a 1×1 convolution is taken, but faster. Where the size
    is no multiple, patches begin 1 or 2 px beyond the picture.
    """
    high, wide = (-(-(-size % way.patch) // 2) for size in way.sizes[0])
    return nn.Conv2d(channels, width, way.patch, stride=way.patch, padding=(high, wide), bias=False)
