"""From palette indices to what networks see, on the network's own device: a picture travels as one byte a pixel."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn


class PaletteRgb(nn.Module):
    """Palette indices uint8 [B, H, W] to RGB float32 [B, 3, H, W] in [−1, 1], channels last in memory."""

    def __init__(self, palette: NDArray[np.uint8]) -> None:
        """`palette` uint8 [256, 3]."""
        super().__init__()
        self.register_buffer("table", torch.tensor(palette, dtype=torch.float32) / 127.5 - 1)
        self.table: Tensor

    def forward(self, indices: Tensor) -> Tensor:
        """Look up every pixel."""
        return F.embedding(indices.int(), self.table).permute(0, 3, 1, 2)
