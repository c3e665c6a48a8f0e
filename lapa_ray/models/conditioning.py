"""What the decoder sees of frame t: a way of its own down to the grid, and one of three ways in from there.

No way leads around the grid: what the decoder knows of where things are passes through as many numbers as there are
places in the grid, so that it cannot copy the frame.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from lapa_ray.models.convolutions import Way, encoder_stack

ConditioningKind = Literal["none", "concat", "film", "cross_attention"]
NUM_HEADS = 4


class Conditioning(nn.Module):
    """None at all: vectors and features pass as they are. Others build on it."""

    def forward(self, frame_t: Tensor | None) -> Tensor | None:  # noqa: ARG002
        """Frame t, float [B, channels, height, width] → what the decoder is told of it."""
        return None

    def join(self, x: Tensor, condition: Tensor | None) -> Tensor:  # noqa: ARG002
        """The decoder's first features float [B, widths[-1], rows, columns] → the same with the condition in them."""
        return x

    def modulate(self, layer: int, x: Tensor, condition: Tensor | None) -> Tensor:  # noqa: ARG002
        """The normalised features of the decoder's `layer`, from 0 → the same under the condition."""
        return x


class Concatenated(Conditioning):
    """Frame t at the grid, beside the codes (1×1 convolution of both)."""

    def __init__(self, channels: int, way: Way) -> None:
        super().__init__()
        self.encoder = encoder_stack(channels, way, way.widths[-1])
        self.mix = nn.Conv2d(2 * way.widths[-1], way.widths[-1], 1)

    def forward(self, frame_t: Tensor | None) -> Tensor | None:
        """The grid of frame t."""
        grid: Tensor = self.encoder(frame_t)
        return grid

    def join(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Both, mixed at each place."""
        assert condition is not None
        mixed: Tensor = self.mix(torch.cat([x, condition], dim=1))
        return mixed


class Film(Conditioning):
    """Feature-wise linear modulation (Perez et al. 2018): frame t's mean scales and shifts each channel."""

    def __init__(self, channels: int, way: Way) -> None:
        super().__init__()
        self.encoder = encoder_stack(channels, way, way.widths[-1])
        self.affine = nn.ModuleList(_zeros(way.widths[-1], 2 * width) for width in list(reversed(way.widths))[1:])

    def forward(self, frame_t: Tensor | None) -> Tensor | None:
        """The mean of frame t's grid."""
        grid: Tensor = self.encoder(frame_t)
        return grid.mean(dim=(2, 3))

    def modulate(self, layer: int, x: Tensor, condition: Tensor | None) -> Tensor:
        """(1 + scale) · x + shift."""
        scale, shift = self.affine[layer](condition)[:, :, None, None].chunk(2, dim=1)
        return x * (1 + scale) + shift


def _zeros(dim: int, out: int) -> nn.Linear:
    """A layer by which at first nothing is changed."""
    layer = nn.Linear(dim, out)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class CrossAttention(Conditioning):
    """Each code asks all places of frame t's grid (Vaswani et al. 2017), which have learnt positions."""

    def __init__(self, channels: int, way: Way) -> None:
        super().__init__()
        (rows, columns), dim = way.sizes[-1], way.widths[-1]
        num_places = rows * columns
        self.encoder = encoder_stack(channels, way, dim)
        self.positions = nn.Parameter(0.02 * torch.randn(2, num_places, dim))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.attention = nn.MultiheadAttention(dim, NUM_HEADS if dim % NUM_HEADS == 0 else 1, batch_first=True)

    def forward(self, frame_t: Tensor | None) -> Tensor | None:
        """Frame t's places float [B, places, widths[-1]]."""
        places: Tensor = self.encoder(frame_t).flatten(2).transpose(1, 2)
        normed: Tensor = self.norms[0](places + self.positions[0])
        return normed

    def join(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """The features plus what they found."""
        asking = self.norms[1](x.flatten(2).transpose(1, 2) + self.positions[1])
        found: Tensor = self.attention(asking, condition, condition, need_weights=False)[0]
        return x + found.transpose(1, 2).unflatten(2, x.shape[2:])


def build_conditioning(kind: ConditioningKind, channels: int, way: Way) -> Conditioning:
    """For pictures of `channels` and an encoder that goes the `way` of the VQ-VAE's."""
    if kind == "concat":
        return Concatenated(channels, way)
    if kind == "film":
        return Film(channels, way)
    if kind == "cross_attention":
        return CrossAttention(channels, way)
    return Conditioning()
