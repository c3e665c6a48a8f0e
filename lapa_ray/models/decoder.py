"""The way up from a grid of vectors to a picture, with or without a look at frame t."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lapa_ray.models.conditioning import Conditioning
from lapa_ray.models.convolutions import Way
from lapa_ray.models.patches import from_patches


class Decoder(nn.Module):
    """Transposed convolutions up the ladder, which come out at exactly the sizes of the way down, then the last layer:
    one more of them, or all pixels of a patch at each place.
    """

    def __init__(self, dim: int, way: Way, out: int, *, background: bool = False) -> None:
        """Vectors of `dim` channels, the `way` up that others go down, to `out` channels without activation.

        With `background` a number for each of them at each pixel is learnt too, the same for all pictures.
        """
        super().__init__()
        ups, upward = list(reversed(way.widths)), list(reversed(way.sizes))
        self._shape, self._out, self._patch = way.sizes[0], out, way.patch
        self.first = nn.Conv2d(dim, ups[0], 1)
        steps = list(zip(ups, [*ups[1:], out], upward[:-1], upward[1:], strict=True))
        layers: list[nn.Module] = [_up(*step) for step in steps[:-1]]
        layers.append(_up(*steps[-1], bias=True) if way.patch == 1 else nn.Conv2d(ups[-1], out * way.patch**2, 1))
        self.convolutions = nn.ModuleList(layers)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in ups[1:])
        shape = way.sizes[0] if way.patch == 1 else way.sizes[1]
        self.background = nn.Parameter(torch.zeros(1, out * way.patch**2, *shape)) if background else None

    def forward(
        self, grid: Tensor, conditioning: Conditioning, frame_t: Tensor | None, places: Tensor | None = None
    ) -> Tensor:
        """Vectors float [B, dim, rows, columns] → float [B, out, height, width].

        With `places`, int64 [n], numbers of patches (pixels, without patches) counted through the whole batch row by
        row: what stands there alone, float [n, out, patch²].
        """
        condition = conditioning(frame_t)
        x = conditioning.join(self.first(grid), condition)
        for number, norm in enumerate(self.norms):
            x = conditioning.modulate(number, norm(self.convolutions[number](x)), condition).relu()
        if places is not None:
            return self._at(x, places)
        x = self.convolutions[-1](x)
        x = x if self.background is None else x + self.background
        return x if self._patch == 1 else from_patches(x, self._patch, self._shape)

    def set_bias(self, bias: Tensor) -> None:
        """Start the last layer from `bias`, float [out]."""
        last: Any = self.convolutions[-1]
        last.bias.copy_(bias.repeat_interleave(self._patch**2))

    def _at(self, x: Tensor, places: Tensor) -> Tensor:
        """The last layer at some places; of patches, no other is made."""
        last: Any = self.convolutions[-1]
        if self._patch == 1:
            chosen = _rows(last(x))[places]
        else:
            as_picture = _rows(x)[places][None, :, None].permute(0, 3, 1, 2)  # of one column
            chosen = _rows(last(as_picture))
        if self.background is not None:
            background = _rows(self.background)
            # Not by [...]: where rows are chosen again and again, index_select is faster on the way back.
            chosen = chosen + background.index_select(0, places % len(background))
        return chosen.unflatten(1, (self._out, self._patch**2))


def _up(
    width: int, after: int, small: tuple[int, int], large: tuple[int, int], *, bias: bool = False
) -> nn.ConvTranspose2d:
    """From `width` channels at the size `small` to `after` channels at `large`."""
    padding = (large[0] - 2 * small[0] + 1, large[1] - 2 * small[1] + 1)
    return nn.ConvTranspose2d(width, after, 3, stride=2, padding=1, output_padding=padding, bias=bias)


def _rows(x: Tensor) -> Tensor:
    """[B, channels, height, width] → [B·height·width, channels]."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)
