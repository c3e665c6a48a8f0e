"""Which settings the report says differ from the defaults."""

from __future__ import annotations

from pathlib import Path

from lapa_ray.core.config import Config, StageConfig
from lapa_ray.evaluation.page import Change
from lapa_ray.stages.report import config_changes


class Inner(Config):
    size: int = 64
    """Size."""
    name: str | None = None
    """Name."""


class Outer(StageConfig):
    frames: Path
    """Read."""
    rate: float = 0.1
    """Rate."""
    fast: bool = False
    """Fast."""
    inner: Inner = Inner()
    """Nested."""


def changes(**fields: object) -> tuple[Change, ...]:
    config = Outer(out=Path("x"), frames=Path("y"), **fields)
    return config_changes(Outer, config.model_dump(mode="json"))


def test_defaults_and_paths_are_no_changes() -> None:
    assert changes() == ()
    assert changes(resume=True) == ()


def test_changed_values_are_told_beside_their_defaults() -> None:
    found = changes(rate=0.5, fast=True, seed=3, inner=Inner(size=12_000, name="a"))
    assert set(found) == {
        Change("rate", "0.5", "0.1"),
        Change("fast", "true", "false"),
        Change("seed", "3", "0"),
        Change("inner.size", "12,000", "64"),
        Change("inner.name", "a", "none"),
    }
