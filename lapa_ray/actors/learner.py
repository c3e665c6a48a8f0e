"""The learner: batches in, weights and TD errors out. Double DQN (van Hasselt et al. 2016). A plain class.

It knows neither workers nor the limiter: it is told how many updates to make, and a `BatchSource` has the batches.
What an update is stands in `models.dqn_update`; here is what goes in and out, and that the host never waits for a GPU
but to hear TD errors one update late, and metrics once a report.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from lapa_ray.actors.policy import to_weights
from lapa_ray.actors.staging import HostCopy, Staging
from lapa_ray.actors.stopwatch import Stopwatch
from lapa_ray.core.config import Config, Device, Fraction
from lapa_ray.core.errors import DivergedError, LapaError
from lapa_ray.core.seeds import seed_for
from lapa_ray.models.checkpoint import load_checkpoint, on_cpu
from lapa_ray.models.device import check_compiler, resolve_device
from lapa_ray.models.dqn_update import DqnUpdate, UpdateSettings
from lapa_ray.models.q_network import OBS_SHAPE, ObsShape, QNetwork, QNetworkConfig
from lapa_ray.models.td_loss import LossRule
from lapa_ray.replay.chunk import Batch

MAX_THREADS = 8
BATCHES_A_MESSAGE = 4
"""Batches that come, and TD errors that go, in one message. A message of Ray's costs some 20 ms of CPU over all its
processes, half of what an update takes on a CPU. So priorities are told up to twice as many updates late."""


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
    life_loss_terminal: bool = False
    """Learn from a lost life as from a terminal; the game goes on, and what is logged and recorded stays as it is."""
    munchausen: bool = False
    """Add the clipped log-policy to the reward, and value the next state softly (Vieillard et al. 2020)."""
    value_rescaling: bool = False
    """Learn values squashed by h(x) = sign(x)(√(|x| + 1) − 1) + 0.001 x instead of plain ones (Pohlen et al. 2018)."""

    def rule(self, network: QNetworkConfig) -> LossRule:
        """The loss of these settings for `network`."""
        is_quantile = network.head == "quantile"
        return LossRule(
            munchausen=self.munchausen,
            value_rescaling=self.value_rescaling,
            num_quantiles=network.num_quantiles if is_quantile else None,
            num_target_quantiles=network.num_target_quantiles if is_quantile else None,
        )


class LearnerResources(Config):
    """Where the learner runs."""

    part_of_identity = False

    device: Device = "auto"
    """auto is CUDA, else MPS, else CPU."""
    mirror: Literal["auto", "on", "off"] = "auto"
    """Keep all replay frames on the learner's device, so that each is sent once (7.2 GB a million); auto: on a GPU."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: faster passes on most machines, by autocast; weights, loss and Adam stay float32."""
    channels_last: bool = False
    """Keep the channels of pictures and kernels innermost: faster on most CPUs, and on GPUs in bfloat16."""
    compile: bool = False
    """Run the networks through torch.compile (a minute's start)."""
    cuda_graph: bool = False
    """CUDA only: record the update once and replay it, for small batches, where launching costs more than computing."""
    num_threads: PositiveInt | None = None
    """CPU threads of an update; if not given, as many as there are cores, at most 8: workers mostly wait for it."""
    num_cpus: float = Field(0.5, gt=0)
    """CPU cores that Ray reserves for the learner."""

    def on_machine(self, num_cores: int | None = None) -> LearnerResources:
        """The same with `num_threads` settled for `num_cores`, which are this machine's if not given."""
        cores = num_cores or os.cpu_count() or 1
        return self.model_copy(update={"num_threads": self.num_threads or min(cores, MAX_THREADS)})

    def usable_device(self) -> torch.device:
        """The device, set up. Raises `LapaError` where there is none that can do what is asked of it."""
        device = resolve_device(self.device)
        if self.cuda_graph and device.type != "cuda":
            raise LapaError(f"--resources.cuda_graph: needs CUDA, and the learner runs on {device.type}; leave it out.")
        if self.compile:
            check_compiler()
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # shapes never change: the fastest kernels are worth looking for
        return device


class BatchSource(Protocol):
    """Where batches come from and TD errors go to."""

    def batches(self, num_updates_done: int, count: int) -> Iterator[Batch]:
        """Exactly `count` batches, which must be allowed."""

    def give_td_errors(self, ids: NDArray[np.int64], td_errors: NDArray[np.float32]) -> None:
        """Tell the TD errors of one batch or of several, in the order of their updates."""


@dataclass(frozen=True)
class LearnerReport:
    """How far the learner is, the means of what it measured since the last report, and where its time went.

    `seconds`: host time by part since the last report: waiting (for batches), staging, updating, telling. Updating is
    all of forward, backward and Adam on a CPU; on a GPU it is the launching, which the GPU follows in its own time.
    """

    num_updates: int
    metrics: dict[str, float]
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Made:
    """An update made, whose TD errors are on their way."""

    number: int
    ids: NDArray[np.int64]
    td_errors: HostCopy


class Learner:
    """Trains a Q-network.

    An update whose TD errors, or a report whose loss or gradient, are no numbers ends it: from then on it gives out
    neither weights nor a state, so what is saved is from before.
    """

    def __init__(
        self,
        num_actions: int,
        network: QNetworkConfig,
        config: LearnerConfig,
        resources: LearnerResources,
        seed: int,
        source: BatchSource,
        obs_shape: ObsShape = OBS_SHAPE,
    ) -> None:
        torch.set_num_threads(resources.num_threads or 1)
        torch.manual_seed(seed_for(seed, "network"))
        self._config, self._source = config, source
        self._device = resources.usable_device()
        online, target = (QNetwork(num_actions, network, obs_shape).to(self._device) for _ in range(2))
        self._update = DqnUpdate(online, target, config.rule(network), _settings(config, resources))
        self._staging, self._watch = Staging(self._device), Stopwatch()
        self._told: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
        self._fault: str | None = None
        self.num_updates = 0

    def train(self, num_updates: int) -> LearnerReport:
        """Make `num_updates` updates. Raises `DivergedError` if the loss is not a number."""
        self._check_sound()
        self._update.take_sums()  # of a call that a dead server broke off, which no report told
        first, under_way = self.num_updates, deque[_Made]()
        self._told.clear()
        lag = 1 if self._device.type == "cuda" else 0
        for batch in self._watch.each("waiting", self._source.batches(first, num_updates)):
            under_way.append(self._launch(batch))
            while len(under_way) > lag:
                self._tell(under_way.popleft())
        while under_way:
            self._tell(under_way.popleft())
        self._send_told()
        return LearnerReport(self.num_updates, self._take_means(first), self._watch.take())

    def update(self, batch: Batch) -> tuple[NDArray[np.float32], dict[str, float]]:
        """One update, waited for; returns |TD errors| float32 [B] and what was measured. Raises like `train`."""
        self._check_sound()
        made = self._launch(batch)
        return self._arrived(made), self._take_means(made.number)

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Weights as workers take them."""
        self._check_sound()
        return to_weights(self._update.network)

    def load(self, path: Path) -> dict[str, Any]:
        """Take over the `learner` part of a checkpoint; returns the other parts.

        Raises `LapaError` if it is damaged or does not fit.
        """
        parts = load_checkpoint(path)
        self.set_state(parts.pop("learner"), path)
        return parts

    def get_state(self) -> dict[str, Any]:
        """Everything that the next update depends on, but the buffer; tensors on the CPU."""
        self._check_sound()
        return on_cpu(self._update.get_state() | {"num_updates": self.num_updates})

    def set_state(self, state: dict[str, Any], path: Path = Path("the state")) -> None:
        """Take over a state, which `path` names in a `LapaError` if it does not fit."""
        self._update.set_state(state, path)
        self.num_updates, self._fault = int(state["num_updates"]), None

    def check_valid(self) -> None:
        """Raise `AssertionError` if a weight is no number, or the target is not that of the updates made."""
        assert self.num_updates >= 0, "updates below 0"
        is_fresh = self.num_updates % self._config.target_update_period_updates == 0
        self._update.check_valid(is_target_fresh=is_fresh)

    def connect(self, source: BatchSource) -> None:
        """From now on take batches from `source`."""
        self._source = source

    def _launch(self, batch: Batch) -> _Made:
        """Set off one update."""
        with self._watch.part("staging"):
            given = self._staging.send(batch)
        with self._watch.part("updating"):
            made = _Made(self.num_updates, batch.ids, HostCopy(self._update(given)))
            self.num_updates += 1
            if self.num_updates % self._config.target_update_period_updates == 0:
                self._update.copy_to_target()
        return made

    def _tell(self, made: _Made) -> None:
        with self._watch.part("telling"):
            self._told.append((made.ids, self._arrived(made)))
            if len(self._told) == BATCHES_A_MESSAGE:
                self._send_told()

    def _send_told(self) -> None:
        if self._told:
            ids, td_errors = zip(*self._told, strict=True)
            self._source.give_td_errors(np.concatenate(ids), np.concatenate(td_errors))
            self._told.clear()

    def _arrived(self, made: _Made) -> NDArray[np.float32]:
        """TD errors, waited for. Where one is no number, neither is the loss."""
        td_errors = made.td_errors.wait()
        if not np.isfinite(td_errors).all():
            self._fail(f"update {made.number}: the loss is {np.nan if np.isnan(td_errors).any() else np.inf}")
        return td_errors

    def _take_means(self, first: int) -> dict[str, float]:
        """Means of the metrics over the updates from `first` on."""
        last = self.num_updates - 1
        means = {name: value / (last - first + 1) for name, value in self._update.take_sums().items()}
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(means[name]):
                self._fail(f"updates {first} to {last}: the mean {name} is {means[name]}")
        return means

    def _fail(self, what: str) -> None:
        self._fault = f"{what}; try a lower --learner.learning_rate."
        self._check_sound()

    def _check_sound(self) -> None:
        if self._fault is not None:
            raise DivergedError(self._fault)


def _settings(config: LearnerConfig, resources: LearnerResources) -> UpdateSettings:
    return UpdateSettings(
        learning_rate=config.learning_rate,
        max_gradient_norm=config.max_gradient_norm,
        is_bfloat16=resources.precision == "bfloat16",
        is_channels_last=resources.channels_last,
        is_compiled=resources.compile,
        is_graphed=resources.cuda_graph,
    )


class ServerSource:
    """Batches from the replay server, a few a message, the next few asked for before these are used."""

    def __init__(self, server: ray.actor.ActorHandle, *, wants_td_errors: bool) -> None:
        """`wants_td_errors`: whether the server's replay is prioritised."""
        self._server, self._wants_td_errors = server, wants_td_errors

    def batches(self, num_updates_done: int, count: int) -> Iterator[Batch]:
        """Exactly `count` batches; none is asked for in vain, since each counts as sampled."""
        yield from self._answers(self._server.sample_many.remote, num_updates_done, count)

    @staticmethod
    def _answers(ask: Callable[[int, int], ray.ObjectRef], num_updates_done: int, count: int) -> Iterator[Any]:
        """What the server answers to `ask`, (updates done, how many), for each of `count` updates, in order."""
        last = num_updates_done + count
        asked = deque[ray.ObjectRef]()
        for first in range(num_updates_done, last, BATCHES_A_MESSAGE):
            asked.append(ask(first, min(BATCHES_A_MESSAGE, last - first)))
            if len(asked) > 1:
                yield from ray.get(asked.popleft())
        yield from ray.get(asked.popleft())

    def give_td_errors(self, ids: NDArray[np.int64], td_errors: NDArray[np.float32]) -> None:
        """Tell the server, without waiting."""
        if self._wants_td_errors:
            self._server.update_priorities.remote(ids, td_errors)


LearnerActor = ray.remote(Learner)
