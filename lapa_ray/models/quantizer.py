"""The quantiser: latents in, codes and quantised latents out, by vector-quantize-pytorch.

The library searches, keeps averages, starts by k-means and revives dead codes. The terms of the VQ-VAE loss are
computed here from its quantised output, since the library weighs the codebook term of learnable codes by the
commitment weight, which is not the paper's loss (van den Oord et al. 2017, equation 3). Knows no pictures and no grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log, pi, prod, sqrt
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F  # noqa: N812
from loguru import logger
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from vector_quantize_pytorch import FSQ, SimVQ, VectorQuantize

from lapa_ray.core.config import Config

# Through loguru it warns of a first batch with fewer latents than codes; its own sampling then repeats some.
logger.disable("vector_quantize_pytorch")

MEANT_FOR = {
    "fsq_levels": ("fsq",),
    "commitment": ("learnable", "ema", "simvq"),
    "ema_decay": ("learnable", "ema"),
    "codebook_dim": ("learnable", "ema", "simvq"),
    "rotation_trick": ("learnable", "ema", "simvq"),
    "kmeans_init": ("learnable", "ema"),
    "revive_below": ("learnable", "ema"),
    "revive_period_updates": ("learnable", "ema"),
    "diversity": ("learnable", "ema", "fsq"),
}
"""Kinds that an option has a meaning with, where not all are."""
NORMAL_TO_EVEN = sqrt(2 / pi)
"""Of this times a normal variable, tanh is spread nearly evenly over (−1, 1), where fsq has its steps."""
SHARPNESS = 4.0
"""How fast the probability of a code of fsq falls with the squared distance, in steps, where diversity asks for it:
that of the next step is 2 % of that of the code a latent lies on."""

LEAST_PROBABILITY = 1e-12
"""Of a code in the entropy; rarer ones pull no latent."""


class QuantizerConfig(Config):
    """Codebook; the defaults are the source's."""

    kind: Literal["learnable", "ema", "simvq", "fsq"] = "learnable"
    """learnable: codes move by gradient (VQ-VAE's loss); ema: by moving averages of the latents; simvq: fixed codes
    under a learnt linear map (Zhu et al. 2024); fsq: the latent rounded in few dimensions (Mentzer et al. 2023)."""
    codebook_size: int = Field(256, ge=2, le=32767)
    """Number of codes."""
    fsq_levels: tuple[PositiveInt, ...] = (8, 8, 4)
    """Only with kind fsq: steps of each dimension; their product is the number of codes."""
    commitment: float = Field(0.25, ge=0)
    """Weight of the commitment term beside the reconstruction loss; the codebook term has weight 1."""
    ema_decay: float = Field(0.99, gt=0, lt=1)
    """Decay of the moving averages of latents and of each code's use, a batch."""
    cosine: bool = False
    """Only with kind ema: l2-normalised codes, compared by cosine similarity."""
    codebook_dim: int | None = Field(None, ge=1)
    """Project latents to this many dimensions before the look-up; code_dim if not given. fsq has its own."""
    standardise: bool = False
    """Normalise latents to mean 0 and variance 1 over the batch, each dimension of the look-up by itself, before they
    are quantised (Łańcucki et al. 2020); with fsq, so that they reach all steps of each dimension."""
    rotation_trick: bool = False
    """Gradients are rotated from code to latent instead of copied (Fifty et al. 2024)."""
    kmeans_init: bool = False
    """Start the codes from k-means over the first batch."""
    revive_below: float = Field(0.0, ge=0)
    """A code whose average use falls below so many latents a batch is replaced by a random latent; 0 never."""
    revive_period_updates: PositiveInt = 1
    """Updates between two looks for such codes; batches where an update adds up several."""
    diversity: float = Field(0.0, ge=0)
    """Weight of the entropy of the codes' mean probability in a batch, which is to be large (Yu et al. 2023)."""

    @classmethod
    def recorded(cls, told: Mapping[str, Any]) -> Self:
        """Of an artefact: options without a meaning, which earlier versions let pass, are left out."""
        kind, revives = told.get("kind", "learnable"), bool(told.get("revive_below"))
        idle = {name for name, kinds in MEANT_FOR.items() if kind not in kinds}
        if not revives:
            idle |= {"revive_period_updates"} | ({"ema_decay"} if kind == "learnable" else set())
        return cls(**{name: value for name, value in told.items() if name not in idle})

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if self.cosine and self.kind != "ema":
            raise ValueError("cosine: needs kind ema, for the gradient would leave the sphere; set kind to ema")
        if self.kind == "fsq" and prod(self.fsq_levels) != self.codebook_size:
            raise ValueError(
                f"fsq_levels: their product should be codebook_size ({self.codebook_size}); got {prod(self.fsq_levels)}"
            )
        for name, kinds in MEANT_FOR.items():
            if self.kind not in kinds and self._is_set(name):
                raise ValueError(f"{name}: has no meaning with kind {self.kind}; leave it out, or use {_either(kinds)}")
        return self

    @model_validator(mode="after")
    def _check_revival(self) -> Self:
        if self.revive_below:
            return self
        if self._is_set("revive_period_updates"):
            raise ValueError(
                "revive_period_updates: without revive_below nothing is revived; leave it out, or set revive_below"
            )
        if self.kind == "learnable" and self._is_set("ema_decay"):
            raise ValueError(
                "ema_decay: of learnable codes it counts uses, for revival alone; leave it out, or set revive_below"
            )
        return self

    def _is_set(self, name: str) -> bool:
        """To another value than its default, which dumps write out for every kind."""
        return bool(getattr(self, name) != type(self).model_fields[name].default)


def _either(kinds: tuple[str, ...]) -> str:
    *others, last = kinds
    return f"{', '.join(others)} or {last}" if others else last


class Quantizer(nn.Module):
    """Nearest code of each latent, straight-through."""

    def __init__(self, dim: int, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        codebook_dim = config.codebook_dim or dim
        if config.kind == "fsq" and config.standardise:  # the library would project after it
            codebook_dim = len(config.fsq_levels)
        projects = codebook_dim != dim
        self.project_in = nn.Linear(dim, codebook_dim) if projects else nn.Identity()
        self.project_out = nn.Linear(codebook_dim, dim) if projects else nn.Identity()
        self.norm = nn.BatchNorm1d(codebook_dim, affine=False) if config.standardise else None
        self.vq: Any = _BUILDERS[config.kind](codebook_dim, config)
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.int64))
        self.num_updates: Tensor

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latents float [B, n, dim] → quantised [B, n, dim] (straight-through), codes int64 [B, n], loss scalar.

        In training mode averages move and dead codes are revived; without `diversity` the loss is the same in both.
        """
        projected = self._project(latents)
        if self.training:
            self._time_revival()
        with torch.autocast(latents.device.type, enabled=False):  # of which the library thinks on CUDA alone
            projected = projected.float()
            quantised, codes, told = self._quantise(projected)
            loss = self._loss(projected, quantised, codes)
            if self.training and self.config.diversity:
                loss = loss + self._unevenness(projected, told)
        return self.project_out(quantised), codes.long(), loss

    def look_up(self, codes: Tensor) -> Tensor:
        """Quantised latents float [B, n, dim] of codes int64 [B, n]."""
        vectors: Tensor = self.project_out(self._vectors(codes))
        return vectors

    def _quantise(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantised latents, their codes, and minus the entropy of the codes' mean probability where the library has
        it: in training, with diversity.
        """
        if not isinstance(self.vq, VectorQuantize):
            quantised, codes, *_ = self.vq(projected)
            return quantised, codes, projected.new_zeros(())
        # Each latent as a batch of its own, for the library takes the entropy of each place by itself.
        quantised, codes, told = self.vq(projected.flatten(0, 1))
        batch = projected.shape[:2]
        return quantised.unflatten(0, batch), codes.unflatten(0, batch), told

    def _loss(self, projected: Tensor, quantised: Tensor, codes: Tensor) -> Tensor:
        if self.config.kind == "fsq":  # nothing is to be drawn to anything: rounding is all there is
            return projected.new_zeros(())
        loss = self.config.commitment * F.mse_loss(projected, quantised.detach())
        if self.config.kind == "ema":
            return loss
        return loss + F.mse_loss(self._vectors(codes), projected.detach())

    def _unevenness(self, projected: Tensor, told: Tensor) -> Tensor:
        """How far codes are from being used alike, weighted; 0 at best."""
        entropy = code_entropy(self.vq, projected) if self.config.kind == "fsq" else -told
        return self.config.diversity * (log(self.config.codebook_size) - entropy)

    def _vectors(self, codes: Tensor) -> Tensor:
        is_vq = isinstance(self.vq, VectorQuantize)
        vectors: Tensor = self.vq.get_codes_from_indices(codes) if is_vq else self.vq.indices_to_codes(codes)
        return vectors

    def _project(self, latents: Tensor) -> Tensor:
        projected: Tensor = self.project_in(latents)
        if self.norm is not None:
            projected = self.norm(projected.flatten(0, 1)).view(projected.shape)
            if self.config.kind == "fsq":
                projected = NORMAL_TO_EVEN * projected - _Bounds.of(self.vq).shift  # which the library adds again
        return F.normalize(projected, dim=-1) if self.config.cosine else projected

    def _time_revival(self) -> None:
        """The library revives at every update that has a threshold; its counts of use go on without one."""
        if self.config.revive_below:
            is_due = int(self.num_updates) % self.config.revive_period_updates == 0
            self.vq._codebook.threshold_ema_dead_code = self.config.revive_below if is_due else 0.0
        self.num_updates += 1


def code_entropy(fsq: FSQ, latents: Tensor) -> Tensor:
    """Entropy, nats, of the mean over all latents, float [B, n, dim], of each code's probability.

    The softmax over codes of minus `SHARPNESS` times the squared distance, in steps, from the latent as it is before
    rounding (Mentzer et al. 2023, section 3.1), which has gradients where the code itself has none.
    """
    bounds = _Bounds.of(fsq)
    bounded = torch.tanh(fsq.project_in(latents) + bounds.shift) * bounds.half - bounds.offset
    joint = latents.new_ones(latents.shape[0] * latents.shape[1], 1)
    for place, levels in zip(bounded.flatten(0, 1).T, fsq._levels.tolist(), strict=True):
        steps = torch.arange(levels, device=latents.device) - levels // 2
        chances = (-SHARPNESS * (place[:, None] - steps).square()).softmax(dim=-1)
        joint = (joint[:, :, None] * chances[:, None]).flatten(1)
    # A code that no latent is near has a probability that underflows to 0, where the entropy's gradient is infinite.
    return torch.special.entr(joint.mean(dim=0).clamp(min=LEAST_PROBABILITY)).sum()


@dataclass(frozen=True)
class _Bounds:
    """How the library bounds each dimension before it rounds: tanh(z + shift) · half − offset (even numbers of levels
    have no middle one).
    """

    shift: Tensor
    half: Tensor
    offset: Tensor

    @classmethod
    def of(cls, fsq: FSQ) -> Self:
        half, offset = (fsq._levels - 1) * (1 + 1e-3) / 2, torch.where(fsq._levels % 2 == 0, 0.5, 0.0)
        return cls(torch.atanh(offset / half), half, offset)


def _vector_quantize(dim: int, config: QuantizerConfig) -> nn.Module:
    return VectorQuantize(
        dim=dim,
        codebook_size=config.codebook_size,
        learnable_codebook=config.kind == "learnable",
        ema_update=config.kind == "ema",
        decay=config.ema_decay,
        use_cosine_sim=config.cosine,
        kmeans_init=config.kmeans_init,
        threshold_ema_dead_code=config.revive_below,
        commitment_weight=0.0,
        codebook_diversity_loss_weight=1.0 if config.diversity else 0.0,
        rotation_trick=config.rotation_trick,
        # Said outright, since the library remembers its first answer for the life of the process.
        sync_codebook=torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1,
    )


def _sim_vq(dim: int, config: QuantizerConfig) -> nn.Module:
    return SimVQ(dim=dim, codebook_size=config.codebook_size, rotation_trick=config.rotation_trick)


def _fsq(dim: int, config: QuantizerConfig) -> nn.Module:
    return FSQ(levels=config.fsq_levels, dim=dim)


_BUILDERS = {"learnable": _vector_quantize, "ema": _vector_quantize, "simvq": _sim_vq, "fsq": _fsq}
