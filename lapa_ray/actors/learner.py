"""The learner: batches in, weights and TD errors out. Double DQN (van Hasselt et al. 2016). A plain class.

It knows neither workers nor the limiter: it is told how many updates to make, and a `BatchSource` has the batches.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
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
from lapa_ray.core.errors import DivergedError, LapaError
from lapa_ray.core.seeds import seed_for
from lapa_ray.models.checkpoint import load_checkpoint, load_weights
from lapa_ray.models.device import resolve_device
from lapa_ray.models.q_network import QNetwork, QNetworkConfig
from lapa_ray.replay.chunk import Batch


class LearnerConfig(Config):
    """Double DQN; the defaults are the source's."""

    batch_size: PositiveInt = 32
    """Transitions an update."""
    learning_rate: float = Field(2.5e-4, gt=0)
    """Step size of Adam, at each update."""
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
    """CPU threads of an update; if not given, the cores that the workers leave, at least 1."""
    num_cpus: float = Field(0.5, gt=0)
    """CPU cores that Ray reserves for the learner."""

    def on_machine(self, num_workers: int) -> LearnerResources:
        """The same with `num_threads` settled: the cores of this machine that `num_workers` leave."""
        left = max(1, (os.cpu_count() or 1) - num_workers)
        return self.model_copy(update={"num_threads": self.num_threads or left})


class BatchSource(Protocol):
    """Where batches come from and TD errors go to."""

    def batches(self, num_updates_done: int, count: int) -> Iterator[Batch]:
        """Exactly `count` batches, which must be allowed."""

    def give_td_errors(self, ids: NDArray[np.int64], td_errors: NDArray[np.float32]) -> None:
        """Tell the TD errors of a batch."""


@dataclass(frozen=True)
class LearnerReport:
    """How far the learner is, and the means of what it measured since the last report."""

    num_updates: int
    metrics: dict[str, float]


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
        torch.set_num_threads(resources.num_threads or 1)
        torch.manual_seed(seed_for(seed, "network"))
        self._config, self._source = config, source
        self._device = resolve_device(resources.device)
        self._network = QNetwork(num_actions, network).to(self._device)
        self._target = QNetwork(num_actions, network).to(self._device).eval()
        self._target.load_state_dict(self._network.state_dict())
        self._optimizer = torch.optim.Adam(
            self._network.parameters(), lr=config.learning_rate, fused=self._device.type != "mps"
        )
        if resources.compile:
            _check_compiler()
        self._online_values: Any = torch.compile(self._network) if resources.compile else self._network
        self._target_values: Any = torch.compile(self._target) if resources.compile else self._target
        self._staging: Tensor | None = None
        self.num_updates = 0

    def train(self, num_updates: int) -> LearnerReport:
        """Make `num_updates` updates. Raises `DivergedError` if the loss is not a number."""
        sums: dict[str, float] = {}
        for batch in self._source.batches(self.num_updates, num_updates):
            td_errors, metrics = self.update(batch)
            self._source.give_td_errors(batch.ids, td_errors)
            sums = {name: sums.get(name, 0.0) + value for name, value in metrics.items()}
        return LearnerReport(self.num_updates, {name: value / num_updates for name, value in sums.items()})

    def update(self, batch: Batch) -> tuple[NDArray[np.float32], dict[str, float]]:
        """One update; returns |TD errors| float32 [B] and what was measured."""
        windows = self._staged(batch.windows)
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
            raise DivergedError(
                f"update {self.num_updates}: the loss is {metrics['loss']}; try a lower --learner.learning_rate."
            )
        self._optimizer.step()
        self.num_updates += 1
        if self.num_updates % self._config.target_update_period_updates == 0:
            self._target.load_state_dict(self._network.state_dict())
        return td_errors.float().cpu().numpy(), metrics

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Weights as workers take them."""
        return to_weights(self._network)

    def load(self, path: Path) -> dict[str, Any]:
        """Take over the `learner` part of a checkpoint; returns the other parts.

        Raises `LapaError` if it is damaged or does not fit.
        """
        parts = load_checkpoint(path)
        self.set_state(parts.pop("learner"), path)
        return parts

    def get_state(self) -> dict[str, Any]:
        """Everything that the next update depends on, but the buffer; tensors on the CPU."""
        state = {
            "network": self._network.state_dict(),
            "target": self._target.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "num_updates": self.num_updates,
        }
        return _on_cpu(state)

    def set_state(self, state: dict[str, Any], path: Path = Path("the state")) -> None:
        """Take over a state, which `path` names in a `LapaError` if it does not fit."""
        load_weights(self._network, state["network"], path)
        load_weights(self._target, state["target"], path)
        self._optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch_rng"])
        self.num_updates = int(state["num_updates"])

    def check_valid(self) -> None:
        """Raise `AssertionError` if a weight is no number, or the target is not that of the updates made."""
        assert self.num_updates >= 0, "updates below 0"
        target = dict(self._target.named_parameters())
        for name, value in self._network.named_parameters():
            assert torch.isfinite(value + target[name]).all(), f"{name} is not finite"
            is_fresh = self.num_updates % self._config.target_update_period_updates == 0
            assert not is_fresh or torch.equal(value, target[name]), f"{name} of the target was not copied"

    def connect(self, source: BatchSource) -> None:
        """From now on take batches from `source`."""
        self._source = source

    def _staged(self, windows: NDArray[np.uint8]) -> Tensor:
        """`windows` on the device; by way of pinned memory where that lets the copy overlap the computation."""
        if self._staging is None or self._staging.shape != windows.shape:
            self._staging = torch.empty(windows.shape, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        self._staging.numpy()[...] = windows
        return self._staging.to(self._device, non_blocking=True)

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


def _check_compiler() -> None:
    """Raise `LapaError` where torch.compile would fail at the first update."""
    compilers = [os.environ.get("CXX", "c++"), "c++", "g++", "clang++"]
    if not any(shutil.which(compiler) for compiler in compilers):
        raise LapaError("--resources.compile: torch.compile needs a C++ compiler; install one, or leave it out.")


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    return [_on_cpu(item) for item in value] if isinstance(value, list) else value


class ServerSource:
    """Batches from the replay server, the next one asked for before this one is used."""

    def __init__(self, server: ray.actor.ActorHandle, *, wants_td_errors: bool) -> None:
        """`wants_td_errors`: whether the server's replay is prioritised."""
        self._server, self._wants_td_errors = server, wants_td_errors

    def batches(self, num_updates_done: int, count: int) -> Iterator[Batch]:
        """Exactly `count` batches; none is asked for in vain, since each counts as sampled."""
        asked = [self._server.sample.remote(num_updates_done)]
        for index in range(1, count + 1):
            if index < count:
                asked.append(self._server.sample.remote(num_updates_done + index))
            yield ray.get(asked.pop(0))

    def give_td_errors(self, ids: NDArray[np.int64], td_errors: NDArray[np.float32]) -> None:
        """Tell the server, without waiting."""
        if self._wants_td_errors:
            self._server.update_priorities.remote(ids, td_errors)


LearnerActor = ray.remote(Learner)
