"""The quantiser: latents in, codes and quantised latents out, by vector-quantize-pytorch.

The library searches, keeps averages, starts by k-means and revives dead codes. The terms of the VQ-VAE loss are
computed here from its quantised output, since the library weighs the codebook term of learnable codes by the
commitment weight, which is not the paper's loss (van den Oord et al. 2017, equation 3). Knows no pictures and no grid.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from loguru import logger
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize

from lapa_ray.core.config import Config

# Through loguru it warns of a first batch with fewer latents than codes; its own sampling then repeats some.
logger.disable("vector_quantize_pytorch")


class QuantizerConfig(Config):
    """Codebook; the defaults are the source's."""

    kind: Literal["learnable", "ema"] = "learnable"
    """learnable: codes move by gradient (VQ-VAE's loss); ema: by moving averages of the latents."""
    codebook_size: int = Field(256, ge=2, le=32767)
    """Number of codes."""
    commitment: float = Field(0.25, ge=0)
    """Weight of the commitment term beside the reconstruction loss; the codebook term has weight 1."""
    ema_decay: float = Field(0.99, gt=0, lt=1)
    """Decay of the moving averages of latents and of each code's use, an update."""
    cosine: bool = False
    """Only with kind ema: l2-normalised codes, compared by cosine similarity."""
    codebook_dim: int | None = Field(None, ge=1)
    """Project latents to this many dimensions before the look-up; code_dim if not given."""
    kmeans_init: bool = False
    """Start the codes from k-means over the first batch."""
    revive_below: float = Field(0.0, ge=0)
    """A code whose average use falls below so many latents a batch is replaced by a random latent; 0 never."""

    @field_validator("cosine")
    @classmethod
    def _cosine_needs_ema(cls, cosine: bool, others: ValidationInfo) -> bool:
        if cosine and others.data.get("kind") != "ema":
            raise ValueError("needs kind ema, for the gradient would leave the sphere; set kind to ema")
        return cosine


class Quantizer(nn.Module):
    """Nearest code of each latent, straight-through."""

    def __init__(self, dim: int, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        codebook_dim = config.codebook_dim or dim
        projects = codebook_dim != dim
        self.project_in = nn.Linear(dim, codebook_dim) if projects else nn.Identity()
        self.project_out = nn.Linear(codebook_dim, dim) if projects else nn.Identity()
        self.vq = VectorQuantize(
            dim=codebook_dim,
            codebook_size=config.codebook_size,
            learnable_codebook=config.kind == "learnable",
            ema_update=config.kind == "ema",
            decay=config.ema_decay,
            use_cosine_sim=config.cosine,
            kmeans_init=config.kmeans_init,
            threshold_ema_dead_code=config.revive_below,
            commitment_weight=0.0,
            rotation_trick=False,
            # Said outright, since the library remembers its first answer for the life of the process.
            sync_codebook=torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1,
        )

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latents float [B, n, dim] → quantised [B, n, dim] (straight-through), codes int64 [B, n], loss scalar.

        In training mode the averages move; the loss is the same in both modes.
        """
        projected = self._project(latents)
        quantised, codes, _ = self.vq(projected)
        loss = self.config.commitment * F.mse_loss(projected, quantised.detach())
        if self.config.kind == "learnable":
            loss = loss + F.mse_loss(self.vq.get_codes_from_indices(codes), projected.detach())
        return self.project_out(quantised), codes, loss

    def look_up(self, codes: Tensor) -> Tensor:
        """Quantised latents float [B, n, dim] of codes int64 [B, n]."""
        vectors: Tensor = self.project_out(self.vq.get_codes_from_indices(codes))
        return vectors

    def _project(self, latents: Tensor) -> Tensor:
        projected: Tensor = self.project_in(latents)
        return F.normalize(projected, dim=-1) if self.config.cosine else projected
