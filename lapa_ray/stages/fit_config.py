"""The config of a training: how long it is and in what portions, and where it runs. Knows no data and no model."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from pydantic import Field, NonNegativeInt, PositiveInt

from lapa_ray.core.config import Config, Device, RayConfig, WandbConfig


class TrainingConfig(Config):
    """How long and in what portions."""

    num_epochs: PositiveInt = 100
    """Passes over the training items."""
    max_updates: PositiveInt | None = None
    """Updates after which training ends, whatever is left of the epochs; no bound if not given."""
    batch_size: PositiveInt = 32
    """Items that go through the network at once, over all workers."""
    accumulate_batches: PositiveInt = 1
    """Batches whose gradients make one update."""
    log_period_updates: PositiveInt = 20
    """Updates between rows in the metric log."""
    validation_period_epochs: PositiveInt = 1
    """Epochs between validations; the last update is always followed by one."""


class FitResources(Config):
    """Where and how a training runs; of what is learnt it changes rounding, order and BatchNorm's statistics."""

    part_of_identity = False

    num_workers: int = Field(1, ge=0)
    """Ray Train workers; 0 trains in this process, without Ray."""
    device: Device = "auto"
    """auto is CUDA, else MPS, else CPU."""
    cpus_per_worker: float = Field(1.0, gt=0)
    """CPU cores that a worker reserves."""
    checkpoint_period_updates: PositiveInt = 200
    """Updates between checkpoints to resume from."""
    kept_checkpoint_period_updates: NonNegativeInt = 0
    """Updates between checkpoints that are kept, beside the last and the best one; 0 keeps no others."""
    throughput_period_updates: NonNegativeInt = 1000
    """Updates between rows of samples/s, GPU memory and GPU utilisation in the metric log; 0 never."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Numbers in which the network is evaluated, by autocast; weights and Adam stay float32. float16 scales its loss,
    against gradients too small for it."""
    compile: bool = False
    """Run the network through torch.compile (a minute's start); needs a C++ compiler."""
    checkpoint_gradients: bool = False
    """Make the activations of encoder and decoder again on the way back instead of keeping them: less memory, more
    time."""


class FitSpec(Protocol):
    """What `run_fit` needs of a stage's config."""

    @property
    def seed(self) -> int: ...
    @property
    def training(self) -> TrainingConfig: ...
    @property
    def resources(self) -> FitResources: ...
    @property
    def ray(self) -> RayConfig: ...
    @property
    def wandb(self) -> WandbConfig: ...
    def model_dump(self, *, mode: str) -> dict[str, Any]: ...
