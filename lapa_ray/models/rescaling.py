"""Value rescaling: returns of any size squashed to what a network learns well, and back (Pohlen et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-3


def squash(values: Tensor) -> Tensor:
    """h(x) = sign(x) (√(|x| + 1) − 1) + ε x, of any shape."""
    return values.sign() * ((values.abs() + 1).sqrt() - 1) + EPSILON * values


def unsquash(values: Tensor) -> Tensor:
    """h⁻¹, exact but for rounding: float32 in and out, computed in float64 where the device has it.

    In float32 the subtraction of two numbers near 1 would leave few digits of a value near 0.
    """
    wide = values if values.device.type == "mps" else values.to(torch.float64)
    root = (1 + 4 * EPSILON * (wide.abs() + 1 + EPSILON)).sqrt()
    result = wide.sign() * (((root - 1) / (2 * EPSILON)) ** 2 - 1)
    return result.to(values.dtype)
