"""The loss of an update: transitions and two networks in, loss and TD errors out. Pure torch.

Scalar values are taken as one quantile without a τ, so targets are made in one way for both heads: [B, N'].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lapa_ray.models.heads import draw_taus
from lapa_ray.models.rescaling import squash, unsquash

Values = Callable[..., Tensor]
"""A Q-network: (obs) → values [B, A]; of a quantile head (obs, taus [B, N]) → quantiles [B, N, A]."""

ALPHA, TEMPERATURE, LOWEST_LOG_POLICY = 0.9, 0.03, -1.0
"""Munchausen: share of the log-policy in the reward, τ, and the bound l0 of τ log π."""


class Transitions(NamedTuple):
    """Transitions on a device.

    windows [B, k+n, …] uint8 (or floats, scaled); actions int64 [B]; rewards float32 [B], n-step sums; discounts
    float32 [B], γ^n, 0 where the episode terminated; weights float32 [B].
    """

    windows: Tensor
    actions: Tensor
    rewards: Tensor
    discounts: Tensor
    weights: Tensor
    n_step: int = 1

    @property
    def columns(self) -> tuple[Tensor, ...]:
        """All tensors."""
        return self.windows, self.actions, self.rewards, self.discounts, self.weights

    def cloned(self) -> Transitions:
        """The same in memory of its own."""
        windows, actions, rewards, discounts, weights = (column.clone() for column in self.columns)
        return Transitions(windows, actions, rewards, discounts, weights, self.n_step)

    @property
    def obs_tm1(self) -> Tensor:
        """Stacks before the action."""
        return self.windows[:, : -self.n_step]

    @property
    def obs_t(self) -> Tensor:
        """Stacks n steps later."""
        return self.windows[:, self.n_step :]


class Loss(NamedTuple):
    """What an update needs and tells: a scalar; |TD errors| float32 [B]; action values float32 [B, A]. The latter two
    without a graph.
    """

    loss: Tensor
    td_errors: Tensor
    values: Tensor


@dataclass(frozen=True)
class LossRule:
    """Which loss; all off is double DQN with the Huber loss (van Hasselt et al. 2016).

    `num_quantiles` and `num_target_quantiles` (N, N') are of a quantile head, None of a scalar one.
    """

    munchausen: bool = False
    value_rescaling: bool = False
    num_quantiles: int | None = None
    num_target_quantiles: int | None = None

    def __call__(self, online: Values, target: Values, given: Transitions) -> Loss:
        """The loss of `given`; only `online` at the stacks before the action gets gradients.

        Two calls of `online`, not one on both stacks together: the second half needs no gradient, and in one graph it
        would be paid for backwards too (6 instead of 4 forward passes' worth of work).
        """
        targets = self._targets(online, target, given)
        if self.num_quantiles is None:
            values = online(given.obs_tm1)
            chosen = _of_action(values[:, None], given.actions)
            losses = F.huber_loss(chosen, targets, reduction="none").squeeze(1)
        else:
            taus = draw_taus(len(given.actions), self.num_quantiles, given.rewards.device)
            quantiles = online(given.obs_tm1, taus)
            values, chosen = quantiles.mean(dim=1), _of_action(quantiles, given.actions)
            losses = quantile_huber_loss(chosen, targets, taus)
        td_errors = (targets.mean(dim=1) - chosen.mean(dim=1)).detach().abs()
        return Loss((given.weights * losses).mean(), td_errors, values.detach())

    @torch.no_grad()
    def _targets(self, online: Values, target: Values, given: Transitions) -> Tensor:
        """Targets [B, N'] of the values of the chosen actions; N' is 1 of a scalar head."""
        rewards = given.rewards
        if self.munchausen:
            rewards = rewards + _munchausen_reward(target(given.obs_tm1), given.actions)
            next_values = _soft_value(self._target_quantiles(target, given.obs_t))
        else:
            best = online(given.obs_t).argmax(dim=1)
            next_values = _of_action(self._target_quantiles(target, given.obs_t), best)
        if self.value_rescaling:
            return squash(rewards[:, None] + given.discounts[:, None] * unsquash(next_values))
        return rewards[:, None] + given.discounts[:, None] * next_values

    def _target_quantiles(self, target: Values, obs: Tensor) -> Tensor:
        """[B, N', A]"""
        if self.num_target_quantiles is None:
            return target(obs)[:, None]
        return target(obs, draw_taus(len(obs), self.num_target_quantiles, obs.device))


def quantile_huber_loss(quantiles: Tensor, targets: Tensor, taus: Tensor) -> Tensor:
    """Per row: |τ − 1[δ < 0]| · Huber(δ), δ = target − quantile, summed over `quantiles` [B, N] at `taus` [B, N] and
    averaged over `targets` [B, N'] (Dabney et al. 2018, κ = 1). Returns [B].
    """
    errors = targets[:, None, :] - quantiles[:, :, None]
    huber = F.huber_loss(errors, torch.zeros_like(errors), reduction="none")
    slopes = (taus[:, :, None] - (errors.detach() < 0).to(taus.dtype)).abs()
    return (slopes * huber).mean(dim=2).sum(dim=1)


def _of_action(values: Tensor, actions: Tensor) -> Tensor:
    """[B, N] of values [B, N, A]: those of one action a row."""
    return values.gather(2, actions[:, None, None].expand(-1, values.shape[1], 1)).squeeze(2)


def _munchausen_reward(values: Tensor, actions: Tensor) -> Tensor:
    """α · clip(τ log π(action), l0, 0) [B] of the target network's values [B, A] (Vieillard et al. 2020).

    Of an n-step return it is that of the first step: the states between are no part of a transition.
    """
    log_policy = torch.log_softmax(values / TEMPERATURE, dim=1).gather(1, actions[:, None]).squeeze(1)
    return ALPHA * (TEMPERATURE * log_policy).clamp(LOWEST_LOG_POLICY, 0)


def _soft_value(values: Tensor) -> Tensor:
    """Σ π(a) (value(a) − τ log π(a)) [B, N] of values [B, N, A], with the policy of their mean over N."""
    log_policy = torch.log_softmax(values.mean(dim=1, keepdim=True) / TEMPERATURE, dim=2)
    return (log_policy.exp() * (values - TEMPERATURE * log_policy)).sum(dim=2)
