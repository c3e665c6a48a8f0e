"""Prioritised replay beats uniform replay where rewards are sparse: the blind cliffwalk of Schaul et al. (2016),
"Prioritized experience replay", section 3.1, on our buffer with either sampler.

A chain of states; in each, one of two actions goes on and the other ends the episode without reward. Only the end of
the chain pays. The replay memory holds what every sequence of actions leads to once: of its 2^(n+1) − 2 transitions a
single one is rewarded. A table of Q-values learns from it until its error against the known values is small.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy import stats

from lapa_ray.replay.buffer import ReplayBuffer, ReplayConfig, build_replay
from lapa_ray.replay.chunk import Chunk

NUM_STATES = 8
GAMMA = 1 - 1 / NUM_STATES
LEARNING_RATE = 0.25
TOLERANCE = 1e-3
NUM_SEEDS = 10
BATCH_SIZE = 4
MAX_UPDATES = 20_000
RIGHT = np.arange(NUM_STATES) % 2
"""The action that goes on, by state."""
TRUE_VALUES = np.zeros((NUM_STATES, 2))
TRUE_VALUES[np.arange(NUM_STATES), RIGHT] = GAMMA ** np.arange(NUM_STATES)[::-1]


def episode(actions: tuple[int, ...]) -> tuple[list[int], list[int], list[float]]:
    """States (the first one included), actions and rewards up to the first wrong action or the end."""
    states, rewards = [0], []
    for state, action in enumerate(actions):
        goes_on = action == RIGHT[state]
        states.append(state + 1)
        rewards.append(float(goes_on and state == NUM_STATES - 1))
        if not goes_on:
            break
    return states, list(actions[: len(rewards)]), rewards


def chunk(actions: tuple[int, ...]) -> Chunk:
    states, taken, rewards = episode(actions)
    rows = len(states)
    return Chunk(
        stream=0,
        frames=np.array(states, dtype=np.uint8)[:, None],
        starts=np.arange(rows) == 0,
        actions=np.array([0, *taken]),
        rewards=np.array([0.0, *rewards], dtype=np.float32),
        terminated=np.arange(rows) == rows - 1,
    )


def filled_buffer(*, use_per: bool, seed: int) -> ReplayBuffer:
    size = 2 ** (NUM_STATES + 1) - 2
    config = ReplayConfig(capacity=size, min_size=size, spare_frames=2 * size)
    generator = np.random.default_rng(seed)
    buffer = build_replay(
        config, frame_stack=1, use_per=use_per, generator=generator, gamma=GAMMA, shape=(1,)
    )  # fmt: skip
    sequences = list(product((0, 1), repeat=NUM_STATES))
    buffer.add([chunk(sequences[index]) for index in generator.permutation(len(sequences))])
    assert len(buffer) == size
    assert buffer.store.gather(np.arange(size))[2].sum() == 1
    return buffer


def num_updates_to_learn(*, use_per: bool, seed: int) -> int:
    """Updates until the mean squared error of all Q-values is within the tolerance."""
    buffer = filled_buffer(use_per=use_per, seed=seed)
    values = np.random.default_rng(seed).normal(scale=0.1, size=(NUM_STATES + 1, 2))
    for update in range(MAX_UPDATES):
        if np.mean((values[:NUM_STATES] - TRUE_VALUES) ** 2) < TOLERANCE:
            return update
        batch = buffer.sample(BATCH_SIZE, beta=0.0)
        states, next_states = batch.obs_tm1[:, 0, 0], batch.obs_t[:, 0, 0]
        td_errors = np.zeros(BATCH_SIZE, dtype=np.float32)
        for row, (state, action) in enumerate(zip(states, batch.actions, strict=True)):
            target = batch.rewards[row] + batch.discounts[row] * values[next_states[row]].max()
            td_errors[row] = target - values[state, action]
            values[state, action] += LEARNING_RATE * td_errors[row]
        buffer.update_priorities(batch.ids, td_errors)
    return MAX_UPDATES


def test_prioritised_replay_learns_the_cliffwalk_sooner_than_uniform_replay():
    counts = np.array(
        [[num_updates_to_learn(use_per=use_per, seed=seed) for use_per in (False, True)] for seed in range(NUM_SEEDS)]
    )
    uniform, prioritised = counts.T
    assert np.all(prioritised < MAX_UPDATES)
    speed_ups = np.log(uniform / prioritised)
    low, high = stats.t.interval(0.95, NUM_SEEDS - 1, speed_ups.mean(), stats.sem(speed_ups))
    assert np.exp(low) > 2, (
        f"{np.exp(speed_ups.mean()):.1f} times fewer, 95 % interval {np.exp(low):.1f}–{np.exp(high):.1f}"
    )
