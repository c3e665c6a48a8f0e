"""Networks and losses of a DQN written out in plain NumPy (float64), to hold those in torch against. Knows no torch.

Weights are a network's state as arrays, by torch's names; stacks are uint8 [B, k, H, W].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Weights = dict[str, np.ndarray]
CONVOLUTIONS = ((0, 4), (2, 2), (4, 1))
"""Place of each convolution's layer among the features, and its stride."""


def features(weights: Weights, obs: np.ndarray) -> np.ndarray:
    """Flat outputs [B, F] of the three convolutions."""
    values = obs.astype(np.float64) / 255
    for place, stride in CONVOLUTIONS:
        kernel, bias = weights[f"features.{place}.weight"], weights[f"features.{place}.bias"]
        patches = np.lib.stride_tricks.sliding_window_view(values, kernel.shape[2:], axis=(2, 3))
        patches = patches[:, :, ::stride, ::stride]
        values = np.maximum(np.einsum("bchwij,ocij->bohw", patches, kernel) + bias[None, :, None, None], 0)
    return values.reshape(len(values), -1)


def layer(weights: Weights, name: str, inputs: np.ndarray) -> np.ndarray:
    return inputs @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def action_values(weights: Weights, inputs: np.ndarray, prefix: str) -> np.ndarray:
    """Of a dueling head or of one with a hidden layer, [..., A]."""
    if f"{prefix}hidden.weight" in weights:
        return layer(weights, f"{prefix}output", np.maximum(layer(weights, f"{prefix}hidden", inputs), 0))
    value = layer(weights, f"{prefix}value", np.maximum(layer(weights, f"{prefix}value_hidden", inputs), 0))
    hidden = np.maximum(layer(weights, f"{prefix}advantage_hidden", inputs), 0)
    advantage = layer(weights, f"{prefix}advantage", hidden)
    return value + advantage - advantage.sum(axis=-1, keepdims=True) / advantage.shape[-1]


def values(weights: Weights, obs: np.ndarray, taus: np.ndarray | None = None) -> np.ndarray:
    """[B, A]; of a quantile head at `taus` [B, N] quantiles [B, N, A]."""
    inputs = features(weights, obs)
    if "head.weight" in weights:
        return layer(weights, "head", np.maximum(layer(weights, "features.7", inputs), 0))
    if taus is None:
        return action_values(weights, inputs, "head.")
    orders = np.arange(weights["head.embedding.weight"].shape[1])
    embedded = np.maximum(layer(weights, "head.embedding", np.cos(np.pi * orders * taus[:, :, None])), 0)
    return action_values(weights, inputs[:, None, :] * embedded, "head.inner.")


@dataclass
class Draws:
    """The τ of an update with a quantile head, each [B, samples]; what is not drawn is None."""

    acting: np.ndarray | None = None
    acting_before: np.ndarray | None = None
    target: np.ndarray | None = None
    online: np.ndarray | None = None


@dataclass
class Reference:
    """One update of two networks."""

    online: Weights
    target: Weights
    munchausen: bool
    value_rescaling: bool
    draws: Draws
    is_double: bool = True

    def loss(self, batch) -> tuple[float, np.ndarray]:
        """Loss, and |TD errors| [B]."""
        rows = np.arange(len(batch.actions))
        if self.draws.online is None:
            chosen = values(self.online, batch.obs_tm1)[rows, batch.actions][:, None]
        else:
            chosen = values(self.online, batch.obs_tm1, self.draws.online)[rows, :, batch.actions]
        targets = self.targets(batch)
        losses = np.array([self._row_loss(row, chosen[row], targets[row]) for row in rows])
        return float((batch.weights * losses).mean()), np.abs(targets.mean(axis=1) - chosen.mean(axis=1))

    def targets(self, batch) -> np.ndarray:
        """[B, N']"""
        rewards = batch.rewards.astype(np.float64)
        next_values = values(self.target, batch.obs_t, self.draws.target)
        if self.draws.target is None:
            next_values = next_values[:, None]
        if self.munchausen:
            rewards = rewards + self._bonus(batch)
            policy = softmax(next_values.mean(axis=1) / 0.03)[:, None]
            following = (policy * (next_values - 0.03 * np.log(policy + 1e-300))).sum(axis=2)
        else:
            chooser = self.online if self.is_double else self.target
            best = self._mean(chooser, batch.obs_t, self.draws.acting).argmax(axis=1)
            following = next_values[np.arange(len(best)), :, best]
        if not self.value_rescaling:
            return rewards[:, None] + batch.discounts[:, None] * following
        return squash(rewards[:, None] + batch.discounts[:, None] * unsquash(following))

    def _bonus(self, batch) -> np.ndarray:
        policy = softmax(self._mean(self.target, batch.obs_tm1, self.draws.acting_before) / 0.03)
        taken = policy[np.arange(len(policy)), batch.actions]
        return 0.9 * np.clip(0.03 * np.log(taken + 1e-300), -1, 0)

    def _mean(self, weights: Weights, obs: np.ndarray, taus: np.ndarray | None) -> np.ndarray:
        given = values(weights, obs, taus)
        return given if taus is None else given.mean(axis=1)

    def _row_loss(self, row: int, chosen: np.ndarray, targets: np.ndarray) -> float:
        if self.draws.online is None:
            return huber(targets[0] - chosen[0])
        total = 0.0
        for tau, quantile in zip(self.draws.online[row], chosen, strict=True):
            for target in targets:
                error = target - quantile
                total += abs(tau - (error < 0)) * huber(error) / len(targets)
        return total


def huber(error: float) -> float:
    return error**2 / 2 if abs(error) <= 1 else abs(error) - 0.5


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def squash(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * (np.sqrt(np.abs(x) + 1) - 1) + 1e-3 * x


def unsquash(y: np.ndarray) -> np.ndarray:
    """By bisection: nothing of the closed form."""
    low, high = np.full_like(y, -1e9), np.full_like(y, 1e9)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = np.where(squash(middle) < y, middle, low), np.where(squash(middle) < y, high, middle)
    return (low + high) / 2
