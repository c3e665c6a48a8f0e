"""The way down from a picture to a grid: stride-2 convolutions through one ladder of sizes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

LADDER = ((210, 160), (105, 80), (53, 40), (27, 20), (14, 10), (7, 5), (4, 3), (2, 2), (1, 1))
"""Heights and widths that convolutions of kernel 3, padding 1 and stride 2 lead through."""


def encoder_stack(num_channels: int, widths: Sequence[int], out: int) -> nn.Sequential:
    """A picture of `num_channels` down `len(widths)` steps of the ladder, then to `out` channels."""
    layers: list[nn.Module] = []
    channels = num_channels
    for width in widths:
        # No bias before a normalisation that would take it away again.
        layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.Conv2d(channels, out, 1))
