"""What the learner is told of a step, beside what the game told."""

from dataclasses import replace

import numpy as np
import pytest

from lapa_ray.actors.learning_view import LearningSettings, LearningView
from lapa_ray.core.errors import LapaError
from lapa_ray.envs.environment import Step
from lapa_ray.envs.shaping import ShapingConfig
from tests.support.counter_env import CounterEnv


def step(reward: float = 0.0, lives: int = 3, terminated: bool = False) -> Step:
    """A step of some game."""
    plain = CounterEnv(frame_skip=2).reset(0)
    frames = replace(plain.frames, lives=np.array([3, lives], dtype=np.int8))
    return Step(plain.obs, reward, terminated, truncated=False, frames=frames)


def view(**fields) -> LearningView:
    one = LearningView(LearningSettings(**fields), CounterEnv().info)
    one.begin(step())
    return one


def test_by_default_everything_is_as_the_game_gave_it():
    one = view()
    assert one.see(step(210.0, lives=2)) == (210.0, False)
    assert one.see(step(-3.0, lives=0, terminated=True)) == (-3.0, True)


def test_rewards_are_clipped():
    one = view(clip_rewards=True)
    assert [one.see(step(reward))[0] for reward in (10, 0.5, 0, -4)] == [1, 0.5, 0, -1]


def test_a_lost_life_ends_what_is_learnt_and_no_more():
    one = view(life_loss_terminal=True)
    seen = [one.see(step(lives=lives))[1] for lives in (3, 2, 2, 3, 1)]
    assert seen == [False, True, False, False, True]
    one.begin(step(lives=3))  # of a new game, which begins with more lives
    assert one.see(step(lives=3)) == (0.0, False)


def test_shaping_comes_on_top_of_what_was_clipped():
    one = view(clip_rewards=True, shaping=ShapingConfig(life_loss=5.0))
    assert [one.see(step(reward, lives))[0] for reward, lives in ((10, 3), (10, 2), (0, 1), (0, 1))] == [1, -4, -5, 0]


def test_shaping_that_the_game_does_not_have_is_refused():
    with pytest.raises(LapaError, match=r"--shaping\.dot_distance: .* of MsPacman, not of Counter"):
        view(shaping=ShapingConfig(dot_distance=1.0))
