"""Config models as a stage has them, for the tests of the core."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from lapa_ray.core.config import NOT_IDENTITY, Config, Fraction, RayConfig, StageConfig


class NetworkConfig(Config):
    """A network."""

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2.5e-4
    """Step size of Adam."""
    widths: tuple[int, ...] = (32, 64)
    """Channels of each layer."""
    activation: Literal["relu", "gelu"] = "relu"
    """Non-linearity."""
    dropout: Fraction = 0.0
    """Share of units dropped."""

    @field_validator("widths")
    @classmethod
    def _any(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        if widths == ():
            raise ValueError("should name one layer or more")
        return widths


class BakeConfig(StageConfig):
    """A made-up stage with every sort of option."""

    flour: Path
    """Directory that is read."""
    num_steps: PositiveInt = 100
    """Agent steps."""
    checkpoint_period_s: Annotated[float, Field(gt=0), NOT_IDENTITY] = 60.0
    """Time between checkpoints, s."""
    max_norm: Annotated[float, Field(gt=0)] | None = None
    """Bound of the gradient norm; none if not given."""
    low: int = 0
    """Lower end."""
    high: int = 10
    """Upper end."""
    policy: Literal["random"] | Path = "random"
    """`random`, or a directory."""
    extra: Path | None = None
    """Another directory."""
    use_salt: bool = True
    """Whether salt goes in."""
    network: NetworkConfig = NetworkConfig(dropout=0.25)
    """The network."""
    ray: RayConfig = RayConfig()
    """A local Ray."""

    @model_validator(mode="after")
    def _ordered(self) -> "BakeConfig":
        if self.low > self.high:
            raise ValueError(f"low: should be at most high ({self.high}); got {self.low}")
        return self
