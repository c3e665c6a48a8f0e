"""What a training of the VQ-VAE is told: pairs, network, loss, length, and what is looked at along the way."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, model_validator

from lapa_ray.core.config import NOT_IDENTITY, Config, RayConfig, StageConfig
from lapa_ray.core.pictures import Composite
from lapa_ray.dataset.splits import Split
from lapa_ray.models.reconstruction_loss import LossConfig
from lapa_ray.models.vqvae import VqvaeConfig
from lapa_ray.stages.fit_config import FitResources, TrainingConfig
from lapa_ray.stages.pair_weights import Balance
from lapa_ray.stages.vqvae_observer import ObservationConfig


class PairConfig(Config):
    """Which pictures the pairs are made of."""

    split: Split = "90/10"
    """Shares of the episodes for training and for validation, which chooses the best checkpoint; with 80/10/10 the
    last tenth takes part in neither, and evaluate measures on it."""

    composite: Composite = "max4"
    """Picture of a step: brightest of its last 4 or 2 frames, or its last frame."""
    max_memory_gb: float = Field(4.0, gt=0)
    """Bound on all pictures that one worker holds, GB; 34 kB a step. What does not fit is streamed from the shards."""
    balance: Balance = "none"
    """Which kinds of pairs are drawn as often as each other: none, all pairs alike; motion, by powers of two of the
    changed pixels; dots, with and without a dot eaten; mazes."""
    leave_out_frozen: bool = False
    """Leave out pairs in which the game stands still (intro, deaths, between levels); needs RAM."""


class VqvaeTraining(Config):
    """What a training of the VQ-VAE does; the defaults are the source's final model."""

    pairs: PairConfig = PairConfig()
    """Pairs."""
    model: VqvaeConfig = VqvaeConfig()
    """Network."""
    learning_rate: float = Field(3e-4, gt=0)
    """Step size of Adam, per update, at the start."""
    final_learning_rate: float | None = Field(None, gt=0)
    """Step size at the end, approached in a straight line; the same throughout if not given."""
    loss: LossConfig = LossConfig()
    """Reconstruction loss."""
    training: TrainingConfig = TrainingConfig()
    """Length and portions."""
    resources: FitResources = FitResources()
    """Workers and device."""
    observe: ObservationConfig = ObservationConfig()
    """What is looked at along the way."""
    collapse_period_updates: Annotated[NonNegativeInt, NOT_IDENTITY] = 2000
    """Updates over which codes of a perplexity below 2 end the training, for the codebook has collapsed (of two codes,
    below 1: never); 0 goes on."""

    @model_validator(mode="after")
    def _check_loss(self) -> Self:
        if (self.loss.kind == "cross_entropy") != (self.model.output == "palette"):
            raise ValueError(
                f"loss.kind: cross_entropy and model.output palette go together; got {self.loss.kind} with "
                f"{self.model.output}"
            )
        for name in ("rare_colour_power", "expected_colour_weight"):
            if getattr(self.loss, name) and self.model.output != "palette":
                raise ValueError(f"loss.{name}: needs model.output palette, whose colours are classes")
        if self.loss.common_share < 1 and (self.model.output != "palette" or self.model.shrink > 1):
            raise ValueError("loss.common_share: needs model.output palette and shrink 1; leave it out, or set them")
        for term, source in (("agent", "agent"), ("vgg", "vgg_weights")):
            if getattr(self.loss, f"{term}_weight") and getattr(self.loss, source) is None:
                raise ValueError(f"loss.{term}_weight: needs loss.{source}; give its path")
        return self


class TrainVqvaeConfig(VqvaeTraining, StageConfig):
    """Trains the VQ-VAE on pairs of consecutive frames; the defaults are the source's final model."""

    frames: Path
    """Frames artefact to learn from."""
    ray: RayConfig = RayConfig()
    """A local Ray; unused when RAY_ADDRESS names a cluster."""
