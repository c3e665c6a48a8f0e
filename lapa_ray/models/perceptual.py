"""Perceptual distances: how differently a network that was trained for something else sees two pictures.

The agent's sees what matters for the score; VGG's (Johnson et al. 2016) what matters in photographs. Both are frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Self

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from lapa_ray.core.errors import LapaError
from lapa_ray.core.pictures import LUMINANCE
from lapa_ray.models.checkpoint import load_checkpoint
from lapa_ray.models.q_network import QNetwork

VGG_WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256)
"""VGG-16 up to its seventh convolution (relu3_3); 0 is a max-pooling."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class _Frozen(nn.Module):
    """Learns nothing, whatever the mode of what it is part of."""

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002
        """Stays in eval mode."""
        return super().train(mode=False)

    def freeze(self) -> None:
        """No gradients for the weights."""
        self.requires_grad_(requires_grad=False).eval()


class AgentDistance(_Frozen):
    """Distance in the convolutional features of a trained Q-network.

    The network is shown frame t as its whole past, and one picture or the other as its newest observation. The distance
    is the mean squared difference of the features in units of their own mean square, so that agents are comparable.
    """

    def __init__(self, network: QNetwork, screen: tuple[int, int]) -> None:
        """`screen`: height and width of the pictures that are compared."""
        super().__init__()
        self._stack, self._is_grey = network.config.frame_stack, len(network.obs_shape) == 2
        self.layers = nn.Sequential(*takewhile(lambda layer: not isinstance(layer, nn.Flatten), network.features))
        for name, size, shrunk in zip(("rows", "columns"), screen, network.obs_shape, strict=False):
            self.register_buffer(name, _area_weights(size, shrunk))
        self.register_buffer("luminance", torch.tensor(LUMINANCE, dtype=torch.float32))
        self.rows: Tensor
        self.columns: Tensor
        self.luminance: Tensor
        self.freeze()

    def forward(self, pictures: Tensor, true: Tensor, frame_t: Tensor) -> Tensor:
        """Scalar, of RGB float [B, 3, height, width] in [−1, 1] each."""
        past = self._observation(frame_t).repeat(1, self._stack - 1, 1, 1)
        seen, wanted = (self.layers(torch.cat([past, self._observation(of)], dim=1)) for of in (pictures, true))
        return _relative(seen, wanted)

    def _observation(self, pictures: Tensor) -> Tensor:
        """What the agent is shown of pictures: float [B, colours, height, width] in [0, 1]."""
        levels = (pictures + 1) / 2
        if self._is_grey:
            levels = (levels * self.luminance.view(3, 1, 1)).sum(dim=1, keepdim=True)
        return self.rows @ levels @ self.columns.T


class VggDistance(_Frozen):
    """Distance in the features of VGG-16 (relu1_2, relu2_2, relu3_3), whose weights come from a file."""

    def __init__(self, weights: Path) -> None:
        """`weights`: the state dict of torchvision's vgg16. Raises `LapaError` if it is none."""
        super().__init__()
        stages = _vgg_stages()
        _load_vgg(stages, _read_vgg(weights), weights)
        self.stages = nn.ModuleList(stages)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1))
        self.mean: Tensor
        self.std: Tensor
        self.freeze()

    def forward(self, pictures: Tensor, true: Tensor) -> Tensor:
        """Scalar, of RGB float [B, 3, height, width] in [−1, 1] each."""
        seen, wanted = (((of + 1) / 2 - self.mean) / self.std for of in (pictures, true))
        total = pictures.new_zeros(())
        for stage in self.stages:
            seen, wanted = stage(seen), stage(wanted)
            total = total + _relative(seen, wanted)
        return total / len(self.stages)


def _relative(seen: Tensor, wanted: Tensor) -> Tensor:
    return (seen - wanted).square().mean() / wanted.square().mean().clamp(min=1e-8)


def _area_weights(size: int, shrunk: int) -> Tensor:
    """Float [shrunk, size]: what OpenCV's area average takes of each pixel; the agent's observations are made by it."""
    return torch.from_numpy(cv2.resize(np.eye(size, dtype=np.float32), (size, shrunk), interpolation=cv2.INTER_AREA))


def _vgg_stages(widths: Sequence[int] = VGG_WIDTHS) -> list[nn.Sequential]:
    stages, layers, channels = [], list[nn.Module](), 3
    for width in widths:
        if width:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        else:
            stages.append(nn.Sequential(*layers))
            layers = [nn.MaxPool2d(2)]
    return [*stages, nn.Sequential(*layers)]


def _read_vgg(path: Path) -> dict[str, Tensor]:
    """What a file that is not ours holds: there is no artefact to be made again."""
    if not path.is_file():
        raise _no_vgg(path, "no such file")
    try:
        return load_checkpoint(path)
    except LapaError as error:
        raise _no_vgg(path, "holds no state dict that can be read") from error


def _no_vgg(path: Path, fault: str) -> LapaError:
    return LapaError(f"--loss.vgg_weights {path}: {fault}; give the state dict of torchvision's vgg16.")


def _load_vgg(stages: Sequence[nn.Sequential], state: dict[str, Tensor], path: Path) -> None:
    """Torchvision numbers all layers of `features` in a row."""
    layers = [layer for stage in stages for layer in stage]
    try:
        for number, layer in enumerate(layers):
            if isinstance(layer, nn.Conv2d):
                layer.weight.data.copy_(state[f"features.{number}.weight"])
                layer.bias.data.copy_(state[f"features.{number}.bias"])  # type: ignore[union-attr]
    except (KeyError, RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise _no_vgg(path, f"is of another network ({type(error).__name__}: {reason})") from error
