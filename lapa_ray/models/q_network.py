"""The Q-network: stacks of observations in, action values out (Mnih et al. 2015)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from lapa_ray.core.artefact import Artefact
from lapa_ray.core.config import Config
from lapa_ray.core.pictures import OBS_SIZE
from lapa_ray.models.checkpoint import load_checkpoint, load_weights

Channels = Annotated[tuple[int, ...], Field(min_length=3, max_length=3)]
KERNELS, STRIDES = (8, 4, 3), (4, 2, 1)
ObsShape = tuple[int, ...]
"""Shape of one observation: (height, width) grey, or (height, width, 3) colour."""
OBS_SHAPE: ObsShape = (OBS_SIZE, OBS_SIZE)


class QNetworkConfig(Config):
    """Three convolutions and two fully connected layers."""

    channels: Channels = (32, 64, 64)
    """Output channels of the three convolutions (kernels 8, 4, 3; strides 4, 2, 1)."""
    hidden: int = Field(512, ge=1)
    """Units of the hidden fully connected layer."""
    frame_stack: int = Field(8, ge=1, le=64)
    """Observations that the network sees at once, agent steps."""


class QNetwork(nn.Module):
    """Action values of stacks uint8 [B, frame_stack, *obs_shape] as float32 [B, num_actions]."""

    def __init__(self, num_actions: int, config: QNetworkConfig, obs_shape: ObsShape = OBS_SHAPE) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, size = config.frame_stack * (1 if len(obs_shape) == 2 else obs_shape[2]), obs_shape[0]
        for width, kernel, stride in zip(config.channels, KERNELS, STRIDES, strict=True):
            layers += [nn.Conv2d(channels, width, kernel, stride), nn.ReLU()]
            channels, size = width, (size - kernel) // stride + 1
        self.features = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(channels * size * size, config.hidden), nn.ReLU()
        )
        self.head = nn.Linear(config.hidden, num_actions)

    def forward(self, obs: Tensor) -> Tensor:
        """Scale to [0, 1] and evaluate."""
        if obs.ndim == 5:  # colours become channels, beside those of the stack
            obs = obs.permute(0, 1, 4, 2, 3).flatten(1, 2)
        values: Tensor = self.head(self.features(obs.to(self.head.weight.dtype) / 255))
        return values

    @torch.inference_mode()
    def greedy(self, obs: Tensor) -> Tensor:
        """Best action of each stack, int64 [B]."""
        return self(obs).argmax(dim=1)


def weights_path(folder: Path, *, use_per: bool) -> Path:
    """Where an agent artefact keeps its final weights."""
    return folder / f"agent_{'PER' if use_per else 'NoPER'}.pth"


def load_agent(artefact: Artefact) -> QNetwork:
    """The trained network of an agent artefact, on the CPU, in eval mode.

    Raises `LapaError` if the weights are missing, damaged or of another network shape.
    """
    config = artefact.manifest.config
    path = weights_path(artefact.path, use_per=bool(config["use_per"]))
    num_actions = int(artefact.manifest.figures["num_actions"] or 0)
    network = QNetwork(num_actions, QNetworkConfig(**config["network"]), _obs_shape(config["env"]))
    load_weights(network, load_checkpoint(path), path)
    return network.eval()


def _obs_shape(env: dict[str, Any]) -> ObsShape:
    """Shape of the observations of an agent's environment; those of old agents were all alike."""
    size, num_channels = int(env.get("obs_size", OBS_SIZE)), int(env.get("obs_channels", 1))
    return (size, size) if num_channels == 1 else (size, size, num_channels)
