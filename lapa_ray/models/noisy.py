"""Noisy linear layers: exploration that is learnt (Fortunato et al. 2018, factorised Gaussian noise)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

INITIAL_SIGMA = 0.5


class NoisyLinear(nn.Module):
    """A linear layer float32 [..., in] → [..., out] whose weights are mean + σ · noise.

    In training every call draws noise anew, one draw for the whole batch; in eval mode the noise is its mean, 0.
    """

    def __init__(self, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        bound, sigma = 1 / math.sqrt(num_inputs), INITIAL_SIGMA / math.sqrt(num_inputs)
        self.weight = nn.Parameter(torch.empty(num_outputs, num_inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_outputs).uniform_(-bound, bound))
        self.weight_sigma = nn.Parameter(torch.full((num_outputs, num_inputs), sigma))
        self.bias_sigma = nn.Parameter(torch.full((num_outputs,), sigma))

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer."""
        if not self.training:
            return F.linear(inputs, self.weight, self.bias)
        num_outputs, num_inputs = self.weight.shape
        rows, columns = self._noise(num_outputs), self._noise(num_inputs)
        weight = self.weight + self.weight_sigma * torch.outer(rows, columns)
        return F.linear(inputs, weight, self.bias + self.bias_sigma * rows)

    def _noise(self, count: int) -> Tensor:
        """f(x) = sign(x) √|x| of `count` standard normal draws."""
        drawn = torch.randn(count, device=self.weight.device)
        return drawn.sign() * drawn.abs().sqrt()


def linear(num_inputs: int, num_outputs: int, *, noisy: bool) -> nn.Module:
    """A linear layer, noisy or plain."""
    return NoisyLinear(num_inputs, num_outputs) if noisy else nn.Linear(num_inputs, num_outputs)
