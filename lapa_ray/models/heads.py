"""Heads of the Q-network: flat features in, action values out."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lapa_ray.models.noisy import linear


class DuelingHead(nn.Module):
    """Value and advantages by two streams with a hidden layer each (Wang et al. 2016): Q = V + A − mean of A."""

    def __init__(self, num_features: int, hidden: int, num_actions: int, *, noisy: bool) -> None:
        super().__init__()
        self.value_hidden = linear(num_features, hidden, noisy=noisy)
        self.advantage_hidden = linear(num_features, hidden, noisy=noisy)
        self.value = linear(hidden, 1, noisy=noisy)
        self.advantage = linear(hidden, num_actions, noisy=noisy)

    def penultimate(self, features: Tensor) -> Tensor:
        """Hidden units of both streams, value's first: [..., 2 · hidden] of features [..., F]."""
        return torch.cat([self.value_hidden(features), self.advantage_hidden(features)], dim=-1).relu()

    def forward(self, features: Tensor) -> Tensor:
        """Action values [..., num_actions] of features [..., F]."""
        value_units, advantage_units = self.penultimate(features).chunk(2, dim=-1)
        advantages: Tensor = self.advantage(advantage_units)
        values: Tensor = self.value(value_units) + advantages - advantages.mean(dim=-1, keepdim=True)
        return values


class PlainHead(nn.Module):
    """Action values by one hidden layer."""

    def __init__(self, num_features: int, hidden: int, num_actions: int, *, noisy: bool) -> None:
        super().__init__()
        self.hidden = linear(num_features, hidden, noisy=noisy)
        self.output = linear(hidden, num_actions, noisy=noisy)

    def penultimate(self, features: Tensor) -> Tensor:
        """Hidden units [..., hidden] of features [..., F]."""
        units: Tensor = self.hidden(features).relu()
        return units

    def forward(self, features: Tensor) -> Tensor:
        """Action values [..., num_actions] of features [..., F]."""
        values: Tensor = self.output(self.penultimate(features))
        return values


class QuantileHead(nn.Module):
    """Quantiles of the return at any τ, by an implicit quantile network (Dabney et al. 2018).

    Features are multiplied by an embedding of τ, ReLU(linear(cos(π i τ), i = 0 … num_cosines − 1)), then go through
    `inner`, a plain or a dueling head.
    """

    def __init__(self, num_features: int, num_cosines: int, inner: DuelingHead | PlainHead) -> None:
        super().__init__()
        self.embedding = nn.Linear(num_cosines, num_features)
        self.inner = inner

    def forward(self, features: Tensor, taus: Tensor) -> Tensor:
        """Quantiles [B, N, num_actions] of features [B, F] at `taus` [B, N] in (0, 1)."""
        quantiles: Tensor = self.inner(self._embedded(features, taus))
        return quantiles

    def penultimate(self, features: Tensor, taus: Tensor) -> Tensor:
        """Hidden units [B, H] of features [B, F]: their mean over `taus` [B, N]."""
        return self.inner.penultimate(self._embedded(features, taus)).mean(dim=1)

    def _embedded(self, features: Tensor, taus: Tensor) -> Tensor:
        orders = torch.arange(self.embedding.in_features, device=taus.device, dtype=taus.dtype)
        embedded: Tensor = self.embedding(torch.cos(math.pi * orders * taus[..., None])).relu()
        return features[:, None] * embedded


def draw_taus(num_rows: int, num_samples: int, device: torch.device) -> Tensor:
    """τ float32 [num_rows, num_samples], uniform in [0, 1)."""
    return torch.rand(num_rows, num_samples, device=device)


def middle_taus(num_rows: int, num_samples: int, device: torch.device) -> Tensor:
    """The middles of `num_samples` equal parts of [0, 1], float32 [num_rows, num_samples]: the mean without chance."""
    middles = (torch.arange(num_samples, device=device, dtype=torch.float32) + 0.5) / num_samples
    return middles.expand(num_rows, num_samples)
