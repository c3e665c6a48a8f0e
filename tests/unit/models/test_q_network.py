"""The Q-network: the default is the source's to the last bit, and every switch does what its paper says."""

import numpy as np
import pytest
import torch
from torch import nn

from lapa_ray.actors.policy import EpsilonGreedy, to_weights
from lapa_ray.core.artefact import Draft, open_artefact
from lapa_ray.core.config import Config, StageConfig
from lapa_ray.core.errors import LapaError
from lapa_ray.models.checkpoint import save_checkpoint
from lapa_ray.models.noisy import NoisyLinear
from lapa_ray.models.q_network import QNetwork, QNetworkConfig, load_agent, scale, weights_path

SMALL = {"channels": (4, 6, 8), "impala_channels": (4, 4, 6), "hidden": 16, "frame_stack": 2}
SWITCHES = {
    "plain": {},
    "dueling": {"dueling": True},
    "noisy": {"noisy": True},
    "quantile": {"head": "quantile"},
    "impala": {"torso": "impala_light"},
    "all": {"dueling": True, "noisy": True, "head": "quantile", "torso": "impala_light"},
}


def network(name: str, obs_shape=(40, 40), num_actions=3) -> QNetwork:
    torch.manual_seed(0)
    return QNetwork(num_actions, QNetworkConfig(**SMALL, **SWITCHES[name]), obs_shape).eval()


def stacks(obs_shape=(40, 40), size=4) -> torch.Tensor:
    generator = np.random.default_rng(1)
    return torch.tensor(generator.integers(0, 256, (size, 2, *obs_shape), dtype=np.uint8))


def test_the_default_network_is_the_one_of_the_source_to_the_last_bit():
    """Same names, same draws in the same order, same arithmetic as three convolutions written out here."""
    torch.manual_seed(5)
    written_out = nn.Sequential(
        nn.Conv2d(8, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 9),
    )  # fmt: skip
    torch.manual_seed(5)
    default = QNetwork(9, QNetworkConfig())
    names = [f"features.{place}.{kind}" for place in (0, 2, 4, 7) for kind in ("weight", "bias")]
    assert list(default.state_dict()) == [*names, "head.weight", "head.bias"]
    for mine, expected in zip(default.parameters(), written_out.parameters(), strict=True):
        assert torch.equal(mine, expected)
    obs = torch.randint(0, 256, (2, 8, 84, 84), dtype=torch.uint8)
    assert torch.equal(default(obs), written_out(obs.float() / 255))


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("obs_shape", [(40, 44), (40, 44, 3), (96, 84)])
def test_every_switch_takes_every_observation(name, obs_shape):
    values = network(name, obs_shape)(stacks(obs_shape))
    assert values.shape == (4, 3)
    assert values.dtype == torch.float32
    assert torch.unique(values).numel() > 3


@pytest.mark.parametrize("name", SWITCHES)
def test_scaled_observations_give_the_same(name):
    one = network(name)
    assert torch.equal(one(stacks()), one(stacks().float() / 255))


def test_colours_become_channels_frame_by_frame():
    """The weights of the second frame's green see just that."""
    one = network("plain", (40, 40, 3))
    obs = torch.zeros(1, 2, 40, 40, 3, dtype=torch.uint8)
    obs[:, 1, :, :, 1] = 255
    first: nn.Conv2d = one.features[0]
    expected = first.weight[:, 4].sum(dim=(1, 2)) + first.bias
    torch.testing.assert_close(first(one._scaled(obs))[0, :, 0, 0], expected)


def test_observations_too_small_for_nature_are_refused():
    with pytest.raises(LapaError, match=r"35×60 pixels are too small for --network.torso nature; .* impala_light"):
        network("plain", (35, 60))
    assert network("impala", (35, 60))(stacks((35, 60))).shape == (4, 3)


def test_the_impala_torso_is_pooled_to_one_size():
    for shape in ((40, 40), (96, 84)):
        assert network("all", shape).features(torch.zeros(1, 2, *shape)).shape == (1, 6 * 6 * 6)


def test_a_dueling_head_has_advantages_of_mean_zero():
    one = network("dueling")
    obs = stacks()
    hidden = one.penultimate(obs)
    value = one.head.value(hidden[:, :16])
    torch.testing.assert_close(one(obs).mean(dim=1, keepdim=True), value)


def test_quantiles_are_drawn_in_training_and_even_otherwise():
    one = network("quantile")
    obs = stacks()
    even = (torch.arange(32) + 0.5) / 32
    torch.testing.assert_close(one(obs), one(obs, even.expand(4, 32)).mean(dim=1))
    assert torch.equal(one(obs), one(obs))
    one.train()
    assert not torch.equal(one(obs), one(obs))


def test_noise_is_drawn_anew_in_training_and_its_mean_otherwise():
    one = network("noisy")
    plain = {name: value for name, value in one.state_dict().items() if "sigma" not in name}
    torch.manual_seed(0)
    without = QNetwork(3, QNetworkConfig(**SMALL), (40, 40)).eval()
    without.load_state_dict(plain)
    assert torch.equal(one(stacks()), without(stacks()))
    one.train()
    assert not torch.equal(one(stacks()), one(stacks()))


def test_the_noise_of_a_layer_is_factorised():
    """Weights drawn = mean + σ f(ε_out) f(ε_in), with f(x) = sign(x) √|x|, and one draw for the whole batch."""
    layer = NoisyLinear(5, 4)
    torch.manual_seed(2)
    outputs = layer(torch.eye(5))
    torch.manual_seed(2)
    rows, columns = torch.randn(4).numpy(), torch.randn(5).numpy()
    rows, columns = (np.sign(x) * np.sqrt(np.abs(x)) for x in (rows, columns))
    weight = layer.weight.detach().numpy() + 0.5 / np.sqrt(5) * rows[:, None] * columns
    bias = layer.bias.detach().numpy() + 0.5 / np.sqrt(5) * rows
    np.testing.assert_allclose(outputs.detach().numpy(), weight.T + bias, rtol=1e-5, atol=1e-6)


def test_gradients_reach_every_sigma():
    one = network("noisy").train()
    one(stacks()).sum().backward()
    sigmas = {name: value.grad for name, value in one.named_parameters() if "sigma" in name}
    assert len(sigmas) == 4
    assert all(gradient.abs().sum() > 0 for gradient in sigmas.values())


@pytest.mark.parametrize(
    ("name", "width"), [("plain", 16), ("noisy", 16), ("dueling", 32), ("quantile", 16), ("all", 32)]
)
def test_penultimate_features(name, width):
    assert network(name).penultimate(stacks()).shape == (4, width)


def test_the_last_layer_sees_the_penultimate_features():
    one = network("plain")
    torch.testing.assert_close(one.head(one.penultimate(stacks())), one(stacks()))


def test_pictures_are_exact_in_bfloat16():
    """All 256 levels differ from each other less than they are rounded, and whole levels are not rounded at all."""
    levels = torch.arange(256, dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        scaled = scale(levels)
    assert scaled.dtype == torch.bfloat16
    assert torch.equal(scaled, (levels.float() / 255).bfloat16())
    assert torch.equal(levels.bfloat16().float(), levels.float())


class OldEnvConfig(Config):
    """As it was before observations could be of another size."""

    game: str = "Catch"
    """Game."""


class EnvConfig(OldEnvConfig):
    obs_size: int = 40
    """Pixels."""
    obs_channels: int = 3
    """Colours."""


class AgentConfig(StageConfig):
    use_per: bool = False
    """As of train-dqn."""
    network: QNetworkConfig
    """As of train-dqn."""
    env: EnvConfig | OldEnvConfig
    """As of train-dqn."""


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize(
    ("env", "shape"), [(OldEnvConfig(), (84, 84)), (EnvConfig(), (40, 40, 3))], ids=["grey", "rgb"]
)
def test_agents_of_every_switch_are_loaded_and_play_alike(tmp_path, name, env, shape):
    one = network(name, shape)
    config = AgentConfig(out=tmp_path / "agent", network=one.config, env=env)
    draft = Draft.begin(config, "agent")
    save_checkpoint(weights_path(draft.path, use_per=False), dict(one.state_dict()))
    draft.finish({"num_actions": one.num_actions})
    loaded = load_agent(open_artefact(draft.path, "agent"))
    obs = stacks(shape, size=16)
    assert torch.equal(loaded(obs), one(obs))
    players = [EpsilonGreedy(player, one.num_actions) for player in (one, loaded)]
    played = [player.act(obs.numpy(), 0.0, [np.random.default_rng(0)] * 16) for player in players]
    np.testing.assert_array_equal(*played)


def test_weights_travel_to_the_workers_whatever_the_switches():
    one, other = network("all"), network("all")
    for parameter in other.parameters():
        parameter.data.zero_()
    EpsilonGreedy(other, 3).load(to_weights(one))
    assert torch.equal(other(stacks()), one(stacks()))


def test_a_worker_explores_by_noise_and_a_recorded_agent_does_not():
    """32 calls on one stack: the worker's actions differ with the noise, without ε; those of the others never do."""
    one = network("noisy")
    one.head.bias.data.zero_()
    one.head.weight.data.zero_()
    obs, generators = stacks(size=1).numpy(), [np.random.default_rng(0)]
    for explores, expected in ((True, {0, 1, 2}), (False, {0})):
        policy = EpsilonGreedy(one, 3, explores=explores)
        assert {int(policy.act(obs, 0.0, generators)[0]) for _ in range(32)} == expected
