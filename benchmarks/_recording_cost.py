"""What writing gameplay costs a rollout worker: whole runs of `train-dqn`, and a worker that plays at random, alone."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks._training import train
from lapa_ray.actors.cluster import ray_session
from lapa_ray.actors.policy import Weights, to_weights
from lapa_ray.actors.rollout_worker import RolloutWorker, WorkerConfig
from lapa_ray.core.config import RayConfig
from lapa_ray.envs.atari_env import AtariEnv, AtariEnvConfig
from lapa_ray.models.q_network import QNetwork, QNetworkConfig

Rates = list[tuple[float, float]]
"""Agent steps/s of (a side that writes, one that does not), a round each."""
ROLLOUT_STEPS = 128
"""Of each environment in a rollout: one row group of each is written in it."""
TRAINING_EPSILON = 0.1


def in_training(folder: Path, num_steps: int, num_rounds: int) -> Rates:
    """Of `train-dqn` as it is by default but for its length, prioritised, from its first update on."""
    with ray_session(RayConfig(num_cpus=2)):
        return [
            (train(folder / f"{index}-writing", num_steps), train(folder / f"{index}-plain", num_steps, no_save=True))
            for index in range(num_rounds)
        ]


def in_a_worker(folder: Path, epsilon: float, num_rollouts: int) -> Rates:
    """Of a worker of `train-dqn` as it is by default, in this process; what it sends goes nowhere."""
    folder.mkdir(parents=True)
    writing, plain = _worker(folder), _worker(None)
    weights = to_weights(QNetwork(AtariEnv(AtariEnvConfig()).num_actions, QNetworkConfig()))
    rates = [
        (_steps_a_second(writing, weights, epsilon), _steps_a_second(plain, weights, epsilon))
        for _ in range(num_rollouts)
    ]
    writing.close()
    return rates


def _worker(folder: Path | None) -> RolloutWorker:
    blocks = list(range(WorkerConfig().envs_per_worker))
    make_env = partial(AtariEnv, AtariEnvConfig(), keep_frames=folder is not None)
    return RolloutWorker(make_env, blocks, QNetworkConfig(), 0, lambda _chunks: None, folder)


def _steps_a_second(worker: RolloutWorker, weights: Weights, epsilon: float) -> float:
    start = time.perf_counter()
    played = worker.play(weights, epsilon, ROLLOUT_STEPS)
    return played.num_steps / (time.perf_counter() - start)


def cost(rates: Rates) -> float:
    """Share of its steps/s that a side loses by writing, the median of the rounds."""
    return 1 - median(writing / plain for writing, plain in rates)
