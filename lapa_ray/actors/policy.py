"""ε-greedy play of a Q-network on the CPU: stacks in, actions out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from lapa_ray.models.q_network import QNetwork

Weights = Mapping[str, NDArray[np.float32]]
Epsilon = float | NDArray[np.float64]
"""Share of random actions, of all environments or of each."""


class EpsilonGreedy:
    """Acts greedily by `network`, at random with probability ε; None plays at random always."""

    def __init__(self, network: QNetwork | None, num_actions: int, *, explores: bool = False) -> None:
        """`explores`: act by draws of a noisy network's noise and of quantiles, as in training, not by their means."""
        self._network = network.train(explores) if network is not None else None
        self._num_actions = num_actions

    def load(self, weights: Weights) -> None:
        """Take over the weights of a network of the same shape."""
        if self._network is not None:
            self._network.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})

    def act(
        self, stacks: NDArray[np.uint8], epsilon: Epsilon, generators: list[np.random.Generator]
    ) -> NDArray[np.int64]:
        """Actions int64 [K] for stacks uint8 [K, k, *obs.shape]; each environment draws from its own generator.

        `epsilon`: of all, or of each, [K].
        """
        explores, chosen = self._draw(epsilon, generators)
        if self._network is None or explores.all():
            return chosen
        greedy = self._network.greedy(torch.tensor(stacks)).numpy()
        return np.where(explores, chosen, greedy)

    def act_and_value(
        self, stacks: NDArray[np.uint8], epsilon: Epsilon, generators: list[np.random.Generator]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The same actions, and the values float32 [K, num_actions] that they were chosen by."""
        explores, chosen = self._draw(epsilon, generators)
        values = self.values(stacks)
        return np.where(explores, chosen, values.argmax(axis=1)), values

    @torch.inference_mode()
    def values(self, stacks: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Action values float32 [K, num_actions]. Raises `ValueError` without a network."""
        if self._network is None:
            raise ValueError("random play has no values")
        values: NDArray[np.float32] = self._network(torch.tensor(stacks)).float().numpy()
        return values

    def _draw(
        self, epsilon: Epsilon, generators: list[np.random.Generator]
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Whether each environment explores, and with which action."""
        shares = np.broadcast_to(epsilon, len(generators)).tolist()
        explores = np.array([generator.random() < share for generator, share in zip(generators, shares, strict=True)])
        chosen = np.array([generator.integers(self._num_actions) for generator in generators], dtype=np.int64)
        return explores, chosen


def to_weights(network: QNetwork) -> dict[str, NDArray[np.float32]]:
    """The network's weights as NumPy arrays, as they travel to the workers."""
    return {name: value.detach().float().cpu().numpy().copy() for name, value in network.state_dict().items()}
