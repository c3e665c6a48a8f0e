"""The way up from a grid of vectors to a picture, with or without a look at frame t."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lapa_ray.models.conditioning import Conditioning


class Decoder(nn.Module):
    """Transposed convolutions up the ladder, which come out at exactly the sizes of the way down."""

    def __init__(
        self,
        dim: int,
        widths: Sequence[int],
        out: int,
        sizes: Sequence[tuple[int, int]],
        *,
        background: bool = False,
    ) -> None:
        """Vectors of `dim` channels; `widths` and `sizes` as on the way down; `out` channels without activation.

        With `background` a number for each of them at each pixel is learnt too, the same for all pictures.
        """
        super().__init__()
        ups, smalls, larges = list(reversed(widths)), list(reversed(sizes))[:-1], list(reversed(sizes))[1:]
        self.first = nn.Conv2d(dim, ups[0], 1)
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        for width, after, small, large in zip(ups, [*ups[1:], out], smalls, larges, strict=True):
            is_last = len(self.norms) == len(ups) - 1
            padding = (large[0] - 2 * small[0] + 1, large[1] - 2 * small[1] + 1)
            self.convolutions.append(
                nn.ConvTranspose2d(width, after, 3, stride=2, padding=1, output_padding=padding, bias=is_last)
            )
            if not is_last:
                self.norms.append(nn.BatchNorm2d(after))
        self.background = nn.Parameter(torch.zeros(1, out, *sizes[0])) if background else None

    def forward(self, grid: Tensor, conditioning: Conditioning, frame_t: Tensor | None) -> Tensor:
        """Vectors float [B, dim, rows, columns] → float [B, out, height, width]."""
        condition = conditioning(frame_t)
        x = conditioning.join(self.first(grid), condition)
        for number, convolution in enumerate(self.convolutions):
            x = convolution(x)
            if number < len(self.norms):
                x = conditioning.modulate(number, self.norms[number](x), condition).relu()
        return x if self.background is None else x + self.background

    def set_bias(self, bias: Tensor) -> None:
        """Start the last layer from `bias`, float [out]."""
        last: Any = self.convolutions[-1]
        last.bias.copy_(bias)
