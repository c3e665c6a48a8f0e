"""The config of a sweep: which settings of the VQ-VAE, over which seeds, and by which figures the best is chosen.

Knows nothing of whether there are such settings and figures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt

from lapa_ray.core.config import NOT_IDENTITY, Config, RayConfig, StageConfig
from lapa_ray.evaluation.sweep_results import Mode
from lapa_ray.stages.trials import TrialResources
from lapa_ray.stages.vqvae_config import VqvaeTraining


class SweepResources(TrialResources):
    """How the trials run; none of it changes what they learn but for the order of additions."""

    cpus_per_trial: float = Field(1.0, gt=0)
    """CPU cores that Ray reserves for a trial."""
    gpus_per_trial: float | None = Field(None, ge=0)
    """GPUs, or parts of one, that Ray reserves for a trial; if not given, one where the cluster has any."""


class AshaConfig(Config):
    """Early ends, by asynchronous successive halving over validations."""

    enabled: bool = True
    """End trials early."""
    grace_validations: PositiveInt = 2
    """Number of validations that every trial is allowed."""
    reduction_factor: float = Field(3.0, gt=1)
    """Of so many trials one goes on, at each rung; rungs lie so many times as many validations apart."""


class SweepConfig(StageConfig):
    """Sweeps the VQ-VAE's settings over seeds."""

    frames: Path
    """Frames artefact to learn from."""
    space: dict[str, list[Any]] = Field(default_factory=dict)
    """Options of train, as dotted paths, to lists of values; every combination is a setting."""
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Names to options of train, as dotted paths, with a value each: what differs in several options at once. Where
    there is a space too, every variant is combined with all of it."""
    num_seeds: PositiveInt = 3
    """Seeds of each setting: seed, seed + 1, and so on."""
    objective: str = "perplexity"
    """Validation figure that the best setting has most (or least) of; or samples_per_s, with asha.enabled false."""
    mode: Mode = "max"
    """Whether more of it is better, or less."""
    constraints: Annotated[tuple[str, ...], NOT_IDENTITY] = ()
    """What the best setting's figures have to be, such as 'changed_psnr_db >= 17'."""
    accept_failed: Annotated[bool, NOT_IDENTITY] = False
    """Finish though trials failed, and with --resume do not try them again; they are shown, and never chosen."""
    asha: AshaConfig = AshaConfig()
    """Early ends."""
    train: VqvaeTraining = VqvaeTraining()
    """What every trial does."""
    resources: SweepResources = SweepResources()
    """How the trials run."""
    ray: RayConfig = RayConfig()
    """A local Ray; unused when RAY_ADDRESS names a cluster."""
