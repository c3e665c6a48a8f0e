"""ε of the source: max(0.1, 0.1^(t / 10⁶)), t the agent steps of all workers."""

import pytest

from lapa_ray.stages.dqn_training import ExplorationConfig, TrainDqnConfig


def test_epsilon_falls_as_the_source_says():
    epsilon = TrainDqnConfig(out="nowhere").exploration.epsilon
    assert epsilon(0) == 1
    assert epsilon(500_000) == pytest.approx(0.1**0.5)
    assert epsilon(1_000_000) == pytest.approx(0.1)
    assert epsilon(10_000_000) == 0.1


def test_a_lower_minimum_lets_it_fall_on():
    assert ExplorationConfig(minimum=0.01).epsilon(2_000_000) == pytest.approx(0.01)
