"""The peers of `train-dqn`: RLlib's DQN and Stable-Baselines3's, on the same game, network, batch and replay ratio.

Double DQN with prioritised replay in RLlib, uniform and single in Stable-Baselines3, which has neither. Both get what
makes them fastest here: small buffers (they keep stacks whole), and no logging to disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ale_py
import gymnasium as gym
import torch
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

EPSILON = 0.1
BATCH_SIZE, STEPS_PER_UPDATE, FRAME_STACK = 32, 4, 8
LEARNING_RATE, GAMMA, TARGET_PERIOD_STEPS = 2.5e-4, 0.99, 40_000
BUFFER_STEPS, FILLING_STEPS = 6_000, 1_000
CHANNELS_LAST = (84, 84, FRAME_STACK)
RateOf = Callable[[int], float]
"""Trains for so many agent steps; → steps/s."""


def make_env() -> gym.Env:
    """Ms. Pac-Man as Gymnasium has it: uint8 [8, 84, 84], 4 frames a step, sticky 0.25, raw rewards."""
    gym.register_envs(ale_py)
    env = gym.make("ALE/MsPacman-v5", frameskip=1, repeat_action_probability=0.25)
    return FrameStackObservation(AtariPreprocessing(env, noop_max=0, frame_skip=4), FRAME_STACK)


@contextmanager
def stable_baselines() -> Iterator[RateOf]:
    """Stable-Baselines3's DQN, its buffer filled."""
    from stable_baselines3 import DQN

    torch.set_num_threads(2)
    model = DQN(
        "CnnPolicy",
        make_env(),
        learning_rate=LEARNING_RATE,
        buffer_size=BUFFER_STEPS,
        learning_starts=FILLING_STEPS,
        batch_size=BATCH_SIZE,
        gamma=GAMMA,
        train_freq=STEPS_PER_UPDATE,
        gradient_steps=1,
        target_update_interval=TARGET_PERIOD_STEPS,
        exploration_initial_eps=EPSILON,
        exploration_final_eps=EPSILON,
        max_grad_norm=1.0,
        device="cpu",
    )
    model.learn(FILLING_STEPS)

    def rate(num_steps: int) -> float:
        start, before = time.perf_counter(), model.num_timesteps
        model.learn(num_steps, reset_num_timesteps=False)
        return float(model.num_timesteps - before) / (time.perf_counter() - start)

    yield rate
    model.get_env().close()


@contextmanager
def rllib() -> Iterator[RateOf]:
    """RLlib's DQN on its new stack, one env runner of four environments, as `ray` runs it in this session."""
    from ray.rllib.algorithms.dqn import DQNConfig
    from ray.tune.registry import register_env

    register_env("lapa_bench_mspacman", lambda _config: ReshapeLast(make_env()))
    config = (
        DQNConfig()
        .environment("lapa_bench_mspacman")
        .env_runners(num_env_runners=1, num_envs_per_env_runner=4, rollout_fragment_length=1)
        .learners(num_learners=0)
        .rl_module(
            model_config={
                "conv_filters": [[32, 8, 4], [64, 4, 2], [64, 3, 1]],
                "conv_activation": "relu",
                "fcnet_hiddens": [],
                "head_fcnet_hiddens": [512],
                "head_fcnet_activation": "relu",
            }
        )
        .training(
            lr=LEARNING_RATE,
            gamma=GAMMA,
            train_batch_size=BATCH_SIZE,
            training_intensity=BATCH_SIZE / STEPS_PER_UPDATE,
            target_network_update_freq=TARGET_PERIOD_STEPS,
            num_steps_sampled_before_learning_starts=FILLING_STEPS,
            epsilon=EPSILON,
            double_q=True,
            dueling=False,
            n_step=1,
            grad_clip=1.0,
            replay_buffer_config={
                "type": "PrioritizedEpisodeReplayBuffer",
                "capacity": BUFFER_STEPS,
                "alpha": 0.6,
                "beta": 0.4,
            },
        )
        .reporting(min_sample_timesteps_per_iteration=100, min_time_s_per_iteration=0)
    )
    algorithm: Any = config.build_algo()

    def num_steps_done() -> float:
        return float(algorithm.metrics.peek(("env_runners", "num_env_steps_sampled_lifetime"), default=0))

    def rate(num_steps: int) -> float:
        start, before = time.perf_counter(), num_steps_done()
        while num_steps_done() - before < num_steps:
            algorithm.train()
        return (num_steps_done() - before) / (time.perf_counter() - start)

    rate(FILLING_STEPS)
    yield rate
    algorithm.stop()


class ReshapeLast(gym.ObservationWrapper):
    """Stacks with channels last and in float32 [0, 1], as RLlib's convolutions take them."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.observation_space = gym.spaces.Box(0.0, 1.0, CHANNELS_LAST, "float32")

    def observation(self, observation: Any) -> Any:
        """uint8 [8, 84, 84] → float32 [84, 84, 8]."""
        return observation.transpose(1, 2, 0).astype("float32") / 255.0
