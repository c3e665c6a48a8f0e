"""Losses and TD errors of every switch, alone and together, beside plain NumPy."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from lapa_ray.models.q_network import QNetwork, QNetworkConfig
from lapa_ray.models.rescaling import squash, unsquash
from lapa_ray.models.td_loss import LossRule, Transitions, quantile_huber_loss
from lapa_ray.replay.chunk import Batch
from tests.support.numpy_dqn import Draws, Reference

NUM_ACTIONS, SIZE, OBS = 3, 5, (36, 40)
NUM_QUANTILES, NUM_TARGETS, NUM_ACTING = 4, 3, 6
TAU_SEED = 7


def network_config(**switches) -> QNetworkConfig:
    return QNetworkConfig(
        channels=(4, 6, 8), hidden=16, frame_stack=2, num_cosines=5, num_quantiles=NUM_QUANTILES,
        num_target_quantiles=NUM_TARGETS, num_acting_quantiles=NUM_ACTING, **switches,
    )  # fmt: skip


def networks(config: QNetworkConfig) -> tuple[QNetwork, QNetwork]:
    """Two that differ, with weights large enough that actions differ in value."""
    torch.manual_seed(1)
    pair = QNetwork(NUM_ACTIONS, config, OBS), QNetwork(NUM_ACTIONS, config, OBS)
    for parameter in (p for network in pair for p in network.parameters()):
        parameter.data *= 2
    return pair


def batch(n_step: int = 1) -> Batch:
    generator = np.random.default_rng(4)
    return Batch(
        windows=generator.integers(0, 256, (SIZE, 2 + n_step, *OBS), dtype=np.uint8),
        actions=generator.integers(0, NUM_ACTIONS, SIZE),
        rewards=(3 * generator.normal(size=SIZE)).astype(np.float32),
        discounts=np.array([0.9, 0, 0.9, 0.9, 0], dtype=np.float32) ** n_step,
        weights=np.linspace(0.25, 1, SIZE, dtype=np.float32),
        ids=np.arange(SIZE),
        n_step=n_step,
    )


def transitions(given: Batch) -> Transitions:
    columns = (given.windows, given.actions, given.rewards, given.discounts, given.weights)
    return Transitions(*map(torch.tensor, columns), given.n_step)


def arrays(network: QNetwork) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in network.state_dict().items()}


def rule(config: QNetworkConfig, **switches) -> LossRule:
    if config.head == "scalar":
        return LossRule(**switches)
    return LossRule(num_quantiles=NUM_QUANTILES, num_target_quantiles=NUM_TARGETS, **switches)


def draws(config: QNetworkConfig, *, munchausen: bool) -> Draws:
    """The very τ that an update draws after `torch.manual_seed(TAU_SEED)`, in its order."""
    if config.head == "scalar":
        return Draws()
    torch.manual_seed(TAU_SEED)
    acting, target, online = (torch.rand(SIZE, n).double().numpy() for n in (NUM_ACTING, NUM_TARGETS, NUM_QUANTILES))
    before = {"acting_before": acting} if munchausen else {"acting": acting}
    return Draws(target=target, online=online, **before)


SWITCHES = list(product([False, True], ["scalar", "quantile"], [False, True], [False, True], [1, 3]))


@pytest.mark.parametrize(("dueling", "head", "munchausen", "value_rescaling", "n_step"), SWITCHES)
def test_the_loss_is_that_of_plain_numpy(dueling, head, munchausen, value_rescaling, n_step):
    config = network_config(dueling=dueling, head=head)
    online, target = networks(config)
    given = batch(n_step)
    reference = Reference(
        arrays(online), arrays(target), munchausen, value_rescaling, draws(config, munchausen=munchausen)
    )
    expected, expected_errors = reference.loss(given)
    simple, _ = replace(reference, is_double=False).loss(given)
    assert munchausen or simple != pytest.approx(expected, rel=1e-3), "nothing here tells double DQN from DQN"
    torch.manual_seed(TAU_SEED)
    result = rule(config, munchausen=munchausen, value_rescaling=value_rescaling)(online, target, transitions(given))
    assert result.loss.item() == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(result.td_errors.numpy(), expected_errors, rtol=1e-3, atol=1e-4)
    assert expected_errors.min() > 0.01, "a comparison of nothing"


def test_gradients_reach_the_network_and_not_its_target():
    online, target = networks(network_config())
    rule(network_config())(online, target, transitions(batch())).loss.backward()
    assert all(parameter.grad is not None for parameter in online.parameters())
    assert all(parameter.grad is None for parameter in target.parameters())


def test_the_munchausen_reward_is_bounded():
    """However unlikely the action, it costs no more than α · |l0| = 0.9."""
    online, target = networks(network_config())
    target.head.bias.data = torch.tensor([0.0, 100.0, 0.0])
    given = batch()
    ended = replace(given, actions=np.zeros(SIZE, dtype=np.int64), discounts=np.zeros(SIZE, dtype=np.float32))
    plain = rule(network_config())(online, target, transitions(ended))
    bound = rule(network_config(), munchausen=True)(online, target, transitions(ended))
    chosen = plain.values[:, 0].numpy()
    np.testing.assert_allclose(plain.td_errors.numpy(), np.abs(ended.rewards - chosen), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(bound.td_errors.numpy(), np.abs(ended.rewards - 0.9 - chosen), rtol=1e-4, atol=1e-5)


def test_quantiles_that_minimise_the_loss_are_quantiles():
    """Of targets spread evenly over [0, 100] the τ quantile has the least loss near 100 τ."""
    targets = torch.linspace(0, 100, 201)[None]
    places = torch.linspace(0, 100, 201)
    for tau in (0.1, 0.5, 0.9):
        taus = torch.full((201, 1), tau)
        losses = quantile_huber_loss(places[:, None], targets.expand(201, -1), taus)
        assert places[losses.argmin()].item() == pytest.approx(100 * tau, abs=1)


def test_rescaling_goes_there_and_back():
    values = torch.cat([-torch.logspace(-4, 6, 60), torch.zeros(1), torch.logspace(-4, 6, 60)])
    torch.testing.assert_close(unsquash(squash(values)), values, rtol=2e-4, atol=1e-5)
    assert squash(torch.tensor(1e4)).item() == pytest.approx(109.0, abs=0.1)
    assert torch.equal(squash(-values), -squash(values))
