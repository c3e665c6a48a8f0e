"""Perceptual distances: 0 for the same picture, gradients to the picture alone, and the agent's own observation."""

import numpy as np
import pytest
import torch

from lapa_ray.core.errors import LapaError
from lapa_ray.core.pictures import grey_levels, shrink
from lapa_ray.models.checkpoint import save_checkpoint
from lapa_ray.models.perceptual import AgentDistance, VggDistance
from lapa_ray.models.q_network import QNetwork, QNetworkConfig
from tests.support.made_networks import vgg_weights
from tests.support.pictures import grey_palette, wandering_square

NETWORK = QNetworkConfig(channels=(4, 4, 4), hidden=8, frame_stack=3)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def frames(count: int = 2) -> torch.Tensor:
    rgb = grey_palette()[wandering_square(count)]
    return torch.from_numpy(rgb).permute(0, 3, 1, 2).float() / 127.5 - 1


def agent(shape: tuple[int, ...] = (84, 84), torso: str = "nature") -> AgentDistance:
    config = NETWORK.model_copy(update={"torso": torso})
    return AgentDistance(QNetwork(5, config, shape), (210, 160))


def check(distance, *given: torch.Tensor) -> None:
    same, other = given[0], torch.flip(given[0], dims=(3,)).requires_grad_()
    assert float(distance(same, same, *given[1:])) == 0
    value = distance(other, same, *given[1:])
    assert value > 0
    value.backward()
    assert other.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in distance.parameters())
    assert not distance.train().training


@pytest.mark.parametrize("shape", [(84, 84), (60, 60), (84, 84, 3)])
@pytest.mark.parametrize("torso", ["nature", "impala_light"])
def test_the_agents_distance(shape, torso):
    check(agent(shape, torso), frames(), frames())


def test_the_agent_is_shown_what_it_sees_in_play():
    """To the rounding of its uint8 observation."""
    palette, screen = grey_palette(), wandering_square(1)
    seen = shrink(grey_levels(palette)[screen[0]], 84, 84)
    shown = agent()._observation(frames(1))[0, 0] * 255
    assert np.abs(shown.numpy() - seen).max() <= 1


def made_weights() -> dict[str, torch.Tensor]:
    return vgg_weights() | {"classifier.0.weight": torch.zeros(1)}


def test_vggs_distance_with_made_weights(tmp_path):
    save_checkpoint(tmp_path / "vgg16.pth", made_weights())
    check(VggDistance(tmp_path / "vgg16.pth"), frames(1)[:, :, ::4, ::4])


@pytest.mark.parametrize("spoil", ["features.2.bias", "features.0.weight"])
def test_weights_that_are_not_vggs_are_refused(tmp_path, spoil):
    save_checkpoint(tmp_path / "vgg16.pth", {k: v for k, v in made_weights().items() if k != spoil})
    with pytest.raises(LapaError, match=r"vgg16\.pth: is of another network"):
        VggDistance(tmp_path / "vgg16.pth")


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "no such file"),
        (lambda path: path.write_text("no weights"), "holds no state dict that can be read"),
        (lambda path: torch.save([torch.zeros(1)], path), "holds no state dict that can be read"),
    ],
    ids=["missing", "a folder", "text", "a list"],
)
def test_a_file_that_holds_no_weights_is_named_with_the_option_that_asks_for_it(tmp_path, write, told):
    path = tmp_path / "vgg16.pth"
    write(path)
    with pytest.raises(LapaError) as error:
        VggDistance(path)
    assert str(error.value) == f"--loss.vgg_weights {path}: {told}; give the state dict of torchvision's vgg16."
