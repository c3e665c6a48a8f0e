"""The way down from a picture to a grid: stride-2 convolutions through one ladder of sizes, perhaps after patches."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from lapa_ray.models.patches import ToPatches

LADDER = ((210, 160), (105, 80), (53, 40), (27, 20), (14, 10), (7, 5), (4, 3), (2, 2), (1, 1))
"""Heights and widths that convolutions of kernel 3, padding 1 and stride 2 lead through."""


def encoder_stack(num_channels: int, widths: Sequence[int], out: int, patch: int = 1) -> nn.Sequential:
    """A picture of `num_channels` down `len(widths)` steps, then to `out` channels.

    A step is one of the ladder's, but for the first, where pictures are cut into patches of `patch` × `patch` pixels.
    """
    layers: list[nn.Module] = []
    channels = num_channels
    if patch > 1:
        channels *= patch**2
        layers.append(ToPatches(patch))
    for number, width in enumerate(widths):
        # No bias before a normalisation that would take it away again.
        if number == 0 and patch > 1:
            layers.append(nn.Conv2d(channels, width, 1, bias=False))
        else:
            layers.append(nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False))
        layers += [nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.Conv2d(channels, out, 1))
