"""The Q-network: stacks of observations in, action values out (Mnih et al. 2015), and the switches that alter it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from lapa_ray.core.artefact import Artefact
from lapa_ray.core.config import Config
from lapa_ray.core.pictures import OBS_SIZE
from lapa_ray.models.checkpoint import load_checkpoint, load_weights
from lapa_ray.models.heads import DuelingHead, PlainHead, QuantileHead, draw_taus, middle_taus
from lapa_ray.models.noisy import linear
from lapa_ray.models.torsos import Layers, impala_light, nature

Channels = Annotated[tuple[int, ...], Field(min_length=3, max_length=3)]
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
    torso: Literal["nature", "impala_light"] = "nature"
    """nature: the three convolutions; impala_light: three residual stages of impala_channels (Espeholt et al. 2018)."""
    impala_channels: Channels = (16, 32, 32)
    """Output channels of the three stages of impala_light; means nothing to nature."""
    dueling: bool = False
    """Value and advantages by two streams, each with its own hidden layer (Wang et al. 2016)."""
    noisy: bool = False
    """Linear layers with learnt noise (Fortunato et al. 2018); ε goes on as exploration says."""
    head: Literal["scalar", "quantile"] = "scalar"
    """scalar: expected returns; quantile: their distribution, by an implicit quantile network (Dabney et al. 2018)."""
    num_cosines: PositiveInt = 64
    """quantile: cosines that embed a quantile's place τ."""
    num_quantiles: PositiveInt = 64
    """quantile: samples of τ in an update, of the values (the paper's N)."""
    num_target_quantiles: PositiveInt = 64
    """quantile: samples of τ in an update, of the targets (the paper's N')."""
    num_acting_quantiles: PositiveInt = 32
    """quantile: samples of τ whose mean is an action's value in play (the paper's K)."""


class QNetwork(nn.Module):
    """Action values of stacks uint8 [B, frame_stack, *obs_shape] as float32 [B, num_actions].

    Floating-point stacks are taken as scaled to [0, 1] already. In training, noise and quantiles are drawn anew at each
    call; in eval mode noise is 0 and the quantiles are evenly spread, so that the same stack gives the same values.
    """

    def __init__(self, num_actions: int, config: QNetworkConfig, obs_shape: ObsShape = OBS_SHAPE) -> None:
        """Raises `LapaError` where `obs_shape` is too small for the torso."""
        super().__init__()
        self.num_actions, self.config, self.obs_shape = num_actions, config, tuple(obs_shape)
        layers, num_features = _torso(config, self.obs_shape)
        if config.head == "scalar" and not config.dueling:
            hidden = linear(num_features, config.hidden, noisy=config.noisy)
            self.features = nn.Sequential(*layers, hidden, nn.ReLU())
            self.head: nn.Module = linear(config.hidden, num_actions, noisy=config.noisy)
        else:
            self.features = nn.Sequential(*layers)
            kind = DuelingHead if config.dueling else PlainHead
            inner = kind(num_features, config.hidden, num_actions, noisy=config.noisy)
            is_quantile = config.head == "quantile"
            self.head = QuantileHead(num_features, config.num_cosines, inner) if is_quantile else inner

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def forward(self, obs: Tensor, taus: Tensor | None = None) -> Tensor:
        """Action values float32 [B, num_actions]; of a quantile head and `taus` [B, N], quantiles [B, N, num_actions].

        Without `taus` a quantile head gives the mean of `num_acting_quantiles` quantiles.
        """
        features = self.features(self._scaled(obs))
        if not isinstance(self.head, QuantileHead):
            return self.head(features).float()
        if taus is not None:
            return self.head(features, taus).float()
        return self.head(features, self._acting_taus(len(obs))).float().mean(dim=1)

    @torch.inference_mode()
    def greedy(self, obs: Tensor) -> Tensor:
        """Best action of each stack, int64 [B]."""
        return self(obs).argmax(dim=1)

    @torch.no_grad()
    def penultimate(self, obs: Tensor) -> Tensor:
        """What the last layer sees, float32 [B, H]: hidden units; of two streams both; of quantiles the mean."""
        features = self.features(self._scaled(obs))
        if isinstance(self.head, QuantileHead):
            return self.head.penultimate(features, self._acting_taus(len(obs)))
        return self.head.penultimate(features) if isinstance(self.head, DuelingHead) else features

    def _scaled(self, obs: Tensor) -> Tensor:
        """Pictures float [B, frame_stack · colours, height, width] in [0, 1]; a frame's colours are neighbours."""
        scaled = obs if obs.is_floating_point() else scale(obs)
        return scaled.permute(0, 1, 4, 2, 3).flatten(1, 2) if scaled.dim() == 5 else scaled

    def _acting_taus(self, num_rows: int) -> Tensor:
        taus = draw_taus if self.training else middle_taus
        return taus(num_rows, self.config.num_acting_quantiles, self.device)


def scale(obs: Tensor) -> Tensor:
    """Observations uint8 as floats in [0, 1], in the autocast type where one is on: 0 … 255 are exact in bfloat16."""
    kind = obs.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.get_default_dtype()
    return obs.to(dtype, copy=True).div_(255)


def _torso(config: QNetworkConfig, obs_shape: ObsShape) -> Layers:
    height, width, *colours = obs_shape
    num_channels = config.frame_stack * (colours[0] if colours else 1)
    if config.torso == "impala_light":
        return impala_light(num_channels, config.impala_channels)
    return nature(num_channels, (height, width), config.channels)


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
