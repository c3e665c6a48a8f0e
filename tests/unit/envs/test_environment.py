import pickle
from dataclasses import replace

import numpy as np
import pytest

from lapa_ray.core.frames import NO_ACTION
from lapa_ray.envs.environment import FrameStack
from tests.support.counter_env import CounterEnv, read


def obs(value: int) -> np.ndarray:
    return np.full((84, 84), value, np.uint8)


def shades(stack: np.ndarray) -> list[int]:
    assert stack.dtype == np.uint8
    return [int(picture[0, 0]) for picture in stack]


def test_a_stack_begins_full_of_the_first_observation():
    stack = FrameStack(3)
    assert shades(stack.reset(obs(7))) == [7, 7, 7]
    assert shades(stack.push(obs(8))) == [7, 7, 8]
    assert shades(stack.push(obs(9))) == [7, 8, 9]
    assert shades(stack.push(obs(10))) == [8, 9, 10]
    assert shades(stack.reset(obs(1))) == [1, 1, 1]


def test_a_stack_belongs_to_the_receiver():
    stack = FrameStack(2)
    first = stack.reset(obs(1))
    second = stack.push(obs(2))
    stack.push(obs(3))
    assert (shades(first), shades(second)) == ([1, 1], [1, 2])


def test_a_stack_is_reset_first():
    with pytest.raises(ValueError, match="push before reset"):
        FrameStack(2).push(obs(1))


def test_a_step_is_last_for_either_reason():
    step = CounterEnv().reset(0)
    assert not step.is_last
    assert replace(step, terminated=True).is_last
    assert replace(step, truncated=True).is_last


@pytest.mark.parametrize("truncates", [False, True])
def test_the_counter_spells_out_where_it_is(truncates):
    env = pickle.loads(pickle.dumps(CounterEnv(length=300, truncates=truncates, height=2)))
    step = env.reset(65536 * 3 + 777)
    assert read(step.obs) == read(step.frames.screens[0]) == read(step.frames.ram[0]) == (777, 0, NO_ACTION % 256)
    for number in range(1, 301):
        assert not step.is_last
        step = env.step(number % 5)
        assert read(step.obs) == read(step.frames.screens[3]) == read(step.frames.ram[2]) == (777, number, number % 5)
        assert step.reward == step.frames.rewards.sum() == number
        assert step.frames.executed_actions.tolist() == [number % 5] * 4
    assert (step.terminated, step.truncated) == (not truncates, truncates)
