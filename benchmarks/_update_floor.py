"""The floor of training: a double DQN update in plain torch on both cores, and what our learner takes beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import ray
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from benchmarks._dqn_peers import BATCH_SIZE, FRAME_STACK, GAMMA, LEARNING_RATE
from lapa_ray.actors.learner import Learner, LearnerConfig, LearnerResources, ServerSource
from lapa_ray.actors.replay_server import ReplayServerActor
from lapa_ray.models.device import resolve_device
from lapa_ray.models.q_network import QNetwork, QNetworkConfig
from lapa_ray.replay.buffer import ReplayConfig
from lapa_ray.replay.chunk import Chunk

NUM_THREADS, NUM_ACTIONS, WARM_UP = 2, 9, 5
NUM_HELD = 4_000
WAYS = tuple(product((torch.float32, torch.bfloat16), (torch.contiguous_format, torch.channels_last)))


def updates_per_s(num_updates: int) -> float:
    """Of the fastest of four ways to compute it on this machine, uint8 batches in memory."""
    return max(plain_rate(*way, NUM_THREADS, num_updates) for way in WAYS)


def plain_rate(dtype: torch.dtype, layout: torch.memory_format, num_threads: int, num_updates: int) -> float:
    """Updates a second of a textbook's update in `dtype` (by autocast) and `layout`."""
    torch.set_num_threads(num_threads)
    resolve_device("cpu")  # without AMX, by which bfloat16 would end this process on some machines
    return _rate(_plain_update(dtype, layout), num_updates)


def _plain_update(dtype: torch.dtype, layout: torch.memory_format) -> Callable[[], None]:
    """One update as a textbook writes it, on one made batch."""
    online, target = (QNetwork(NUM_ACTIONS, QNetworkConfig()) for _ in range(2))
    for network in (online, target):
        network.to(memory_format=layout)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(online.parameters(), lr=LEARNING_RATE, fused=True)
    windows = torch.randint(0, 256, (BATCH_SIZE, FRAME_STACK + 1, 84, 84), dtype=torch.uint8)
    actions, rewards = torch.randint(0, NUM_ACTIONS, (BATCH_SIZE, 1)), torch.rand(BATCH_SIZE)

    def stacks(obs: Tensor) -> Tensor:
        return obs.contiguous(memory_format=layout)

    def update() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            with torch.no_grad():
                obs_t = stacks(windows[:, 1:])
                best = online(obs_t).argmax(dim=1, keepdim=True)
                targets = rewards + GAMMA * target(obs_t).gather(1, best).squeeze(1).float()
            chosen = online(stacks(windows[:, :-1])).gather(1, actions).squeeze(1)
            loss = F.huber_loss(chosen.float(), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(online.parameters(), 1.0)
        optimizer.step()

    return update


def _rate(update: Callable[[], object], num_updates: int) -> float:
    for _ in range(WARM_UP):
        update()
    start = time.perf_counter()
    for _ in range(num_updates):
        update()
    return num_updates / (time.perf_counter() - start)


def learner_overhead(num_updates: int) -> float:
    """Share of our learner's time that is not its update: waiting for batches, sending TD errors. Needs Ray.

    The replay server is a process of its own, as in training, and prioritised; nobody plays meanwhile.
    """
    server = filled_server(num_updates)
    try:
        source = ServerSource(server, wants_td_errors=True)
        resources = LearnerResources(device="cpu", num_threads=NUM_THREADS, channels_last=True)
        learner = Learner(NUM_ACTIONS, QNetworkConfig(), LearnerConfig(), resources, 0, source)
        batch = next(iter(source.batches(0, 1)))
        learner.train(WARM_UP)
        start = time.perf_counter()
        learner.train(num_updates)
        trained = time.perf_counter() - start
        alone = num_updates / _rate(lambda: learner.update(batch), num_updates)
    finally:
        ray.kill(server)
    return max(0.0, 1 - alone / trained)


def filled_server(num_updates: int) -> Any:
    """Handle of a prioritised replay server in a process of its own, full of noise, for so many updates. Needs Ray."""
    server = ReplayServerActor.options(num_cpus=0).remote(
        ReplayConfig(capacity=NUM_HELD, min_size=BATCH_SIZE, samples_per_insert=1e6),
        frame_stack=FRAME_STACK,
        use_per=True,
        batch_size=BATCH_SIZE,
        num_updates=num_updates,
        seed=0,
        max_waiting_steps=NUM_HELD,
        gamma=GAMMA,
    )
    ray.get(server.insert.remote([_noise()]))
    return server


def _noise() -> Chunk:
    generator = np.random.default_rng(0)
    count = NUM_HELD // 2
    return Chunk(
        stream=0,
        frames=generator.integers(0, 256, (count, 84, 84), dtype=np.uint8),
        starts=np.arange(count) == 0,
        actions=generator.integers(0, NUM_ACTIONS, count),
        rewards=generator.random(count, dtype=np.float32),
        terminated=np.zeros(count, dtype=np.bool_),
    )
