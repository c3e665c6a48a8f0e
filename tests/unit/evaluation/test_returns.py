"""Random play and returns, on the counter environment."""

from __future__ import annotations

import numpy as np
import pytest

from lapa_ray.core.frames import GameInfo, StepFrames
from lapa_ray.envs.environment import Step
from lapa_ray.evaluation.returns import play_random_episode, returns_group


class BanditEnv:
    """Pays the number of the action; ends after `length` steps. Keeps the actions that it was given."""

    num_actions = 4
    info: GameInfo

    def __init__(self, length: int = 50) -> None:
        self._length, self.actions, self.seeds = length, [], []

    def reset(self, seed: int) -> Step:
        self.seeds.append(seed)
        self.actions.append([])
        return self._step(0.0)

    def step(self, action: int) -> Step:
        self.actions[-1].append(action)
        return self._step(float(action))

    def _step(self, reward: float) -> Step:
        over = len(self.actions[-1]) >= self._length
        frames = StepFrames(*[np.zeros((0,), dtype=np.uint8)] * 5)
        return Step(np.zeros((84, 84), dtype=np.uint8), reward, terminated=over, truncated=False, frames=frames)


def test_the_score_is_the_sum_of_raw_rewards_until_the_episode_ends() -> None:
    env = BanditEnv()
    score = play_random_episode(env, seed=0, number=0)
    assert len(env.actions[0]) == 50
    assert score == sum(env.actions[0])
    assert set(env.actions[0]) == {0, 1, 2, 3}


def test_episodes_differ_and_repeat_with_the_seed() -> None:
    env = BanditEnv()
    for number in (0, 1, 0):
        play_random_episode(env, seed=5, number=number)
    assert env.actions[0] == env.actions[2] != env.actions[1]
    assert env.seeds[0] == env.seeds[2] != env.seeds[1]


def test_max_steps_cuts_as_recording_does() -> None:
    env = BanditEnv()
    play_random_episode(env, seed=0, number=0, max_steps=7)
    assert len(env.actions[0]) == 7


def test_the_agents_mean_stands_beside_random_play() -> None:
    (figure,) = returns_group([100, 300, 500], [90, 110, 100, 100], 0, "data", "").figures
    assert figure.estimate.value == pytest.approx(300)
    assert figure.estimate.num_episodes == 3
    assert figure.baselines["random"].value == pytest.approx(100)
    assert figure.verdict() == "overlaps"
