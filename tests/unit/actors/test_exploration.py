"""ε of the source: max(0.1, 0.1^(t / 10⁶)), t the agent steps of all workers; and the ladder of Ape-X below it."""

import numpy as np
import pytest

from lapa_ray.actors.exploration import ExplorationConfig
from lapa_ray.stages.dqn_training import TrainDqnConfig


def test_epsilon_falls_as_the_source_says():
    epsilon = TrainDqnConfig(out="nowhere").exploration.epsilon
    assert epsilon(0) == 1
    assert epsilon(500_000) == pytest.approx(0.1**0.5)
    assert epsilon(1_000_000) == pytest.approx(0.1)
    assert epsilon(10_000_000) == 0.1


def test_a_lower_minimum_lets_it_fall_on():
    assert ExplorationConfig(minimum=0.01).epsilon(2_000_000) == pytest.approx(0.01)


def test_without_a_ladder_all_environments_play_alike():
    ladder = ExplorationConfig().ladder_of(8)
    assert ladder.epsilons(0.3, range(8)).tolist() == [0.3] * 8


def test_the_ladder_is_that_of_ape_x():
    ladder = ExplorationConfig(ladder=True).ladder_of(5)
    expected = [0.4 ** (1 + i / 4 * 7) for i in range(5)]
    np.testing.assert_allclose(ladder.epsilons(0.4, range(5)), expected, rtol=1e-12)
    np.testing.assert_allclose(ladder.epsilons(0.4, range(2, 4)), expected[2:4], rtol=1e-12)


def test_one_environment_alone_stands_on_top():
    assert ExplorationConfig(ladder=True).ladder_of(1).epsilons(0.4, [0]).tolist() == [0.4]
