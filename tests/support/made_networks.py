"""Networks that losses look through, with random weights: an agent's artefact, and VGG's file."""

from pathlib import Path

from torch import Tensor

from lapa_ray.core.artefact import Artefact, Draft
from lapa_ray.core.config import Config, StageConfig
from lapa_ray.models import perceptual
from lapa_ray.models.checkpoint import save_checkpoint
from lapa_ray.models.perceptual import VGG_WIDTHS
from lapa_ray.models.q_network import QNetwork, QNetworkConfig, weights_path

NARROW_VGG = (4, 4, 0, 8, 8, 0, 8, 8, 8)
"""As deep as VGG-16, but fast."""
NUM_ACTIONS = 5
vgg_stages = perceptual._vgg_stages


class MadeEnvConfig(Config):
    game: str = "MsPacman"
    """Game."""


class MadeAgentConfig(StageConfig):
    use_per: bool = False
    """As of train-dqn."""
    network: QNetworkConfig = QNetworkConfig(channels=(4, 4, 4), hidden=8, frame_stack=3)
    """As of train-dqn."""
    env: MadeEnvConfig = MadeEnvConfig()
    """As of train-dqn."""


def made_agent(out: Path) -> Artefact:
    """An agent artefact that has learnt nothing."""
    config = MadeAgentConfig(out=out)
    draft = Draft.begin(config, "agent")
    weights = QNetwork(NUM_ACTIONS, config.network).state_dict()
    save_checkpoint(weights_path(draft.path, use_per=False), dict(weights))
    return draft.finish({"num_actions": NUM_ACTIONS})


def vgg_weights(widths: tuple[int, ...] = VGG_WIDTHS) -> dict[str, Tensor]:
    """What torchvision's file holds, of a VGG of such `widths`."""
    layers = [layer for stage in vgg_stages(widths) for layer in stage]
    return {
        f"features.{number}.{name}": value
        for number, layer in enumerate(layers)
        for name, value in layer.state_dict().items()
    }


def narrow_vgg(folder: Path, monkeypatch) -> Path:
    """A file with the weights of a narrow VGG, which from here on is what losses look through."""
    monkeypatch.setattr(perceptual, "_vgg_stages", lambda: vgg_stages(NARROW_VGG))
    save_checkpoint(folder / "vgg.pth", vgg_weights(NARROW_VGG))
    return folder / "vgg.pth"
