"""The learner: batches in, weights and TD errors out. Double DQN (van Hasselt et al. 2016). A plain class.

It knows neither workers nor the limiter: `BatchSource` gives it batches, or None while there is none yet.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import ray
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from torch import Tensor

from lapa_ray.actors.policy import to_weights
from lapa_ray.core.config import Config, Device, Fraction
from lapa_ray.core.errors import LapaError
from lapa_ray.core.seeds import seed_for
from lapa_ray.models.checkpoint import load_checkpoint, save_checkpoint
from lapa_ray.models.device import resolve_device
from lapa_ray.models.q_network import QNetwork, QNetworkConfig
from lapa_ray.replay.chunk import Batch

PATIENCE_S = 1.0
"""How long to wait for a batch before telling the supervisor that there is none."""


class LearnerConfig(Config):
    """Double DQN; the defaults are the source's."""

    batch_size: PositiveInt = 32
    """Transitions an update."""
    learning_rate: float = Field(2.5e-4, gt=0)
    """Of Adam."""
    gamma: Fraction = 0.99
    """Discount an agent step."""
    target_update_period_updates: PositiveInt = 10_000
    """Updates between two copies of the network to the target network."""
    max_gradient_norm: float = Field(1.0, gt=0)
    """Gradients are scaled down to this l2 norm."""
    clip_rewards: bool = False
    """Learn from rewards clipped to [−1, 1] (Mnih et al. 2015); the source learns from raw scores."""


class LearnerResources(Config):
    """Where the learner runs."""

    part_of_identity = False

    device: Device = "auto"
    """auto is CUDA, else MPS, else CPU."""
    compile: bool = False
    """Run the networks through torch.compile (a minute's start)."""
    num_threads: PositiveInt | None = None
    """CPU threads of an update; all cores of the machine if not given."""
    num_cpus: float = Field(0.5, gt=0)
    """CPU cores that Ray reserves for the learner."""


class BatchSource(Protocol):
    """Where batches come from and TD errors go to."""

    def next_batch(self, num_updates_done: int) -> Batch | None:
        """The next batch, or None."""

    def give_td_errors(self, ids: NDArray[np.int64], td_errors: NDArray[np.float32]) -> None:
        """Tell the TD errors of a batch."""


@dataclass(frozen=True)
class LearnerReport:
    """How far the learner is, and the means of what it measured since the last report (empty if it made no update)."""

    num_updates: int
    metrics: dict[str, float]
    seconds: float


class Learner:
    """Trains a Q-network."""

    def __init__(
        self,
        num_actions: int,
        network: QNetworkConfig,
        config: LearnerConfig,
        resources: LearnerResources,
        seed: int,
        source: BatchSource,
    ) -> None:
        torch.set_num_threads(resources.num_threads or os.cpu_count() or 1)
        torch.manual_seed(seed_for(seed, "network"))
        self._config, self._source = config, source
        self._device = resolve_device(resources.device)
        self._network = QNetwork(num_actions, network).to(self._device)
        self._target = QNetwork(num_actions, network).to(self._device).eval()
        self._target.load_state_dict(self._network.state_dict())
        self._optimizer = torch.optim.Adam(self._network.parameters(), lr=config.learning_rate)
        self._online_values: Any = torch.compile(self._network) if resources.compile else self._network
        self._target_values: Any = torch.compile(self._target) if resources.compile else self._target
        self.num_updates = 0

    def train(self, num_updates: int) -> LearnerReport:
        """Up to `num_updates` updates; fewer if no batch comes for a second.

        Raises `LapaError` if the loss is not a number.
        """
        start = last_batch = time.monotonic()
        sums: dict[str, float] = {}
        done = 0
        while done < num_updates and time.monotonic() - last_batch < PATIENCE_S:
            batch = self._source.next_batch(self.num_updates)
            if batch is None:
                time.sleep(0.005)
                continue
            td_errors, metrics = self.update(batch)
            self._source.give_td_errors(batch.ids, td_errors)
            for name, value in metrics.items():
                sums[name] = sums.get(name, 0.0) + value
            done += 1
            last_batch = time.monotonic()
        means = {name: value / done for name, value in sums.items()}
        return LearnerReport(self.num_updates, means, time.monotonic() - start)

    def update(self, batch: Batch) -> tuple[NDArray[np.float32], dict[str, float]]:
        """One update; returns |TD errors| float32 [B] and what was measured."""
        windows = torch.from_numpy(batch.windows).to(self._device)
        actions, rewards, terminated, weights = (
            torch.tensor(column).to(self._device)
            for column in (batch.actions, batch.rewards, batch.terminated, batch.weights)
        )
        targets = self._targets(windows[:, 1:], rewards, terminated)
        values = self._online_values(windows[:, :-1])
        chosen = values.gather(1, actions[:, None]).squeeze(1)
        loss = (weights * F.huber_loss(chosen, targets, reduction="none")).mean()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self._network.parameters(), self._config.max_gradient_norm)
        td_errors = (targets - chosen).detach().abs()
        metrics = _measure(loss, values, td_errors, norm)
        if not math.isfinite(metrics["loss"]):
            raise LapaError(f"update {self.num_updates}: the loss is {metrics['loss']}; try a lower learning_rate.")
        self._optimizer.step()
        self.num_updates += 1
        if self.num_updates % self._config.target_update_period_updates == 0:
            self._target.load_state_dict(self._network.state_dict())
        return td_errors.float().cpu().numpy(), metrics

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Weights as workers take them."""
        return to_weights(self._network)

    def save(self, path: Path, extra: dict[str, Any]) -> None:
        """Write network, target, optimiser, random state and count, with `extra`, by rename."""
        save_checkpoint(path, {**self.get_state(), **extra})

    def save_weights(self, path: Path) -> None:
        """Write the network's weights alone, by rename."""
        save_checkpoint(path, {name: value.cpu() for name, value in self._network.state_dict().items()})

    def load(self, path: Path) -> None:
        """Take over a checkpoint. Raises `LapaError` if it is missing or damaged."""
        self.set_state(load_checkpoint(path))

    def get_state(self) -> dict[str, Any]:
        """Everything that the next update depends on, but the buffer."""
        return {
            "network": self._network.state_dict(),
            "target": self._target.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "num_updates": self.num_updates,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a state."""
        self._network.load_state_dict(state["network"])
        self._target.load_state_dict(state["target"])
        self._optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch_rng"])
        self.num_updates = int(state["num_updates"])

    @torch.no_grad()
    def _targets(self, obs_t: Tensor, rewards: Tensor, terminated: Tensor) -> Tensor:
        """The online network chooses the next action, the target network values it."""
        if self._config.clip_rewards:
            rewards = rewards.clamp(-1, 1)
        best = self._online_values(obs_t).argmax(dim=1, keepdim=True)
        next_values = self._target_values(obs_t).gather(1, best).squeeze(1)
        return rewards + self._config.gamma * next_values * (~terminated).to(rewards.dtype)


def _measure(loss: Tensor, values: Tensor, td_errors: Tensor, norm: Tensor) -> dict[str, float]:
    """One transfer for all: each `float()` of a tensor on a GPU would wait for it."""
    values = values.detach()
    packed = torch.stack(
        [loss.detach(), values.mean(), values.var(correction=0), values.max(), td_errors.mean(), norm]
    ).tolist()
    names = ("loss", "mean_q", "variance_q", "max_q", "td_error", "gradient_norm")
    return dict(zip(names, packed, strict=True))


class ServerSource:
    """Batches from the replay server, the next one asked for before this one is used."""

    def __init__(self, server: ray.actor.ActorHandle, batch_size: int) -> None:
        self._server, self._batch_size = server, batch_size
        self._next: ray.ObjectRef | None = None

    def next_batch(self, num_updates_done: int) -> Batch | None:
        """The batch asked for last time; None if the server had none."""
        asked = self._next or self._ask(num_updates_done)
        batch: Batch | None = ray.get(asked)
        self._next = self._ask(num_updates_done + 1) if batch is not None else None
        return batch

    def give_td_errors(self, ids: NDArray[np.int64], td_errors: NDArray[np.float32]) -> None:
        """Tell the server, without waiting."""
        self._server.update_priorities.remote(ids, td_errors)

    def _ask(self, num_updates_done: int) -> ray.ObjectRef:
        return self._server.sample.remote(self._batch_size, num_updates_done)


LearnerActor = ray.remote(Learner)
