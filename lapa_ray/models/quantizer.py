"""The quantiser: latents in, codes and quantised latents out, by vector-quantize-pytorch.

The library searches, keeps averages, starts by k-means and revives dead codes. The two terms of the VQ-VAE loss are
written out here, since the library weighs the codebook term of learnable codes by the commitment weight, which is not
the paper's loss (van den Oord et al. 2017, equation 3).
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F  # noqa: N812
from pydantic import Field
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize

from lapa_ray.core.config import Config


class QuantizerConfig(Config):
    """Codebook; the defaults are the source's."""

    kind: Literal["learnable", "ema"] = "learnable"
    """learnable: codes move by gradient (VQ-VAE's loss); ema: by moving averages of the latents."""
    codebook_size: int = Field(256, ge=2, le=32767)
    """Number of codes."""
    commitment: float = Field(0.25, ge=0)
    """Weight of the commitment term beside the reconstruction loss."""
    ema_decay: float = Field(0.99, gt=0, lt=1)
    """ema: decay of the averages, an update."""
    cosine: bool = False
    """ema: l2-normalised codes, compared by cosine similarity."""
    codebook_dim: int | None = Field(None, ge=1)
    """ema: project latents to this many dimensions before the look-up; code_dim if not given."""
    kmeans_init: bool = False
    """Start the codes from k-means over the first batch."""
    revive_below: float = Field(0.0, ge=0)
    """ema: a code whose average use falls below so many latents a batch is replaced by a random latent; 0 never."""


class Quantizer(nn.Module):
    """Nearest code of each latent, straight-through."""

    def __init__(self, dim: int, config: QuantizerConfig) -> None:
        super().__init__()
        learnable = config.kind == "learnable"
        self._commitment, self._learnable = config.commitment, learnable
        self.vq = VectorQuantize(
            dim=dim,
            codebook_size=config.codebook_size,
            codebook_dim=None if learnable else config.codebook_dim,
            learnable_codebook=learnable,
            ema_update=not learnable,
            decay=config.ema_decay,
            use_cosine_sim=config.cosine and not learnable,
            kmeans_init=config.kmeans_init,
            threshold_ema_dead_code=0 if learnable else config.revive_below,
            commitment_weight=0.0 if learnable else config.commitment,
            rotation_trick=False,
        )

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latents float [B, n, dim] → quantised [B, n, dim] (straight-through), codes int64 [B, n], loss scalar."""
        quantised, codes, loss = self.vq(latents)
        if not self._learnable:
            return quantised, codes, loss.sum()
        chosen = self.vq.get_codes_from_indices(codes)
        codebook_term = F.mse_loss(chosen, latents.detach())
        commitment_term = F.mse_loss(latents, chosen.detach())
        return latents + (chosen - latents).detach(), codes, codebook_term + self._commitment * commitment_term

    def look_up(self, codes: Tensor) -> Tensor:
        """Quantised latents float [B, n, dim] of codes int64 [B, n]."""
        vectors: Tensor = self.vq.get_output_from_indices(codes)
        return vectors
