"""From screens to what networks see, on the network's own device: palette indices travel as one byte a pixel."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from lapa_ray.core.pictures import LUMINANCE, grey_levels

Colour = Literal["rgb", "grey"]


class PaletteRgb(nn.Module):
    """Palette indices uint8 [B, H, W] to RGB float32 [B, 3, H, W] in [−1, 1], channels last in memory.

    With `colour` grey, one channel, the levels of ALE's grey screens; with `lowest` 0, in [0, 1]. Where the palette is
    empty, the screens are RGB themselves, uint8 [B, H, W, 3].
    """

    def __init__(self, palette: NDArray[np.uint8], colour: Colour = "rgb", lowest: Literal[-1, 0] = -1) -> None:
        """`palette` uint8 [256, 3], or [0, 3]."""
        super().__init__()
        self._is_grey, self._lowest, self._has_palette = colour == "grey", lowest, bool(len(palette))
        levels = grey_levels(palette)[:, None] if self._is_grey else palette
        self.register_buffer("table", self._scaled(torch.tensor(levels, dtype=torch.float32)))
        self.register_buffer("luminance", torch.tensor(LUMINANCE, dtype=torch.float32), persistent=False)
        self.table: Tensor
        self.luminance: Tensor

    @property
    def has_colours(self) -> bool:
        """Whether what it gives tells the palette index of each pixel: neither grey nor RGB screens do."""
        return self._has_palette and not self._is_grey

    def forward(self, screens: Tensor) -> Tensor:
        """Look up every pixel."""
        if self._has_palette:
            return F.embedding(screens.int(), self.table).permute(0, 3, 1, 2)
        levels = screens.float()
        if self._is_grey:
            levels = (levels @ self.luminance).round()[..., None]
        return self._scaled(levels).permute(0, 3, 1, 2)

    def _scaled(self, levels: Tensor) -> Tensor:
        return levels / 127.5 - 1 if self._lowest else levels / 255
