"""Prioritised sampling against the formulas of Schaul et al. 2016."""

import numpy as np
import pytest

from lapa_ray.replay.samplers import MIN_PRIORITY, PrioritisedSampler, UniformSampler

ALPHA = 0.6


def sampler_with(td_errors, capacity=10) -> PrioritisedSampler:
    sampler = PrioritisedSampler(capacity, ALPHA, np.random.default_rng(0))
    sampler.hold(0, len(td_errors))
    sampler.update(np.arange(len(td_errors)), np.array(td_errors, dtype=np.float32))
    return sampler


def probabilities(td_errors) -> np.ndarray:
    priorities = (np.array(td_errors) + MIN_PRIORITY) ** ALPHA
    return priorities / priorities.sum()


def test_transitions_are_drawn_in_proportion_to_their_priority():
    td_errors = [0.1, 5.0, 1.0, 0.0, 2.5]
    sampler = sampler_with(td_errors)
    ids = np.concatenate([sampler.sample(100, beta=1.0)[0] for _ in range(200)])
    np.testing.assert_allclose(np.bincount(ids, minlength=5) / len(ids), probabilities(td_errors), atol=0.01)


def test_draws_are_stratified():
    ids, _ = sampler_with([1.0] * 8).sample(8, beta=1.0)
    assert sorted(ids) == list(range(8))


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_importance_weights_follow_the_formula(beta):
    td_errors = [0.1, 5.0, 1.0]
    ids, weights = sampler_with(td_errors).sample(64, beta)
    expected = (3 * probabilities(td_errors)[ids]) ** -beta
    np.testing.assert_allclose(weights, expected / expected.max(), rtol=1e-5)
    assert weights.max() == 1.0


def test_new_transitions_get_the_greatest_priority_seen():
    sampler = sampler_with([7.0, 0.0])
    sampler.update(np.array([0]), np.array([0.0], dtype=np.float32))
    sampler.hold(0, 3)
    ids, _ = sampler.sample(1000, beta=1.0)
    assert np.mean(ids == 2) > 0.99


def test_told_td_errors_are_first_priorities_and_raise_the_greatest():
    sampler = sampler_with([3.0])
    sampler.hold(0, 4, np.array([0.5, np.nan, 8.0], dtype=np.float32))
    sampler.hold(0, 5)
    ids, _ = sampler.sample(20_000, beta=1.0)
    expected = probabilities([3.0, 0.5, 3.0, 8.0, 8.0])
    np.testing.assert_allclose(np.bincount(ids, minlength=5) / len(ids), expected, atol=0.01)
    sampler.check_valid()


def test_of_more_told_td_errors_than_fit_the_last_count():
    sampler = PrioritisedSampler(3, ALPHA, np.random.default_rng(0))
    sampler.hold(2, 5, np.array([1e6, 1e6, 1.0, 1.0, 1.0], dtype=np.float32))
    _, weights = sampler.sample(100, beta=1.0)
    assert weights.min() > 0.9


def test_priorities_of_overwritten_transitions_are_dropped():
    sampler = sampler_with([1.0] * 10)
    sampler.hold(3, 13)  # ids 10, 11 and 12 lie where 0, 1 and 2 lay
    sampler.update(np.array([0, 1, 2]), np.full(3, 1e6, dtype=np.float32))
    ids, weights = sampler.sample(1000, beta=1.0)
    assert set(ids) == set(range(3, 13))
    assert weights.min() > 0.9
    sampler.check_valid()


def test_more_new_transitions_than_fit_leave_only_the_newest():
    sampler = PrioritisedSampler(4, ALPHA, np.random.default_rng(0))
    sampler.hold(0, 3)
    sampler.hold(19, 23)
    sampler.check_valid()
    assert set(sampler.sample(100, beta=1.0)[0]) == {19, 20, 21, 22}


def test_uniform_draws_reach_all_and_weigh_alike():
    sampler = UniformSampler(np.random.default_rng(0))
    sampler.hold(5, 9)
    ids, weights = sampler.sample(400, beta=0.4)
    np.testing.assert_allclose(np.bincount(ids - 5) / 400, 0.25, atol=0.08)
    assert np.all(weights == 1)
