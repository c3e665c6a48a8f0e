"""The VQ-VAE: a pair of frames in, a 7×5 grid of codes for what leads from one to the other, the second frame back.

The source's final model: both frames concatenated (6 channels), five stride-2 convolutions, no conditioning of the
decoder, no skip connections. Knows no dataset and no training loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from lapa_ray.core.artefact import Artefact
from lapa_ray.core.config import Config
from lapa_ray.models.checkpoint import load_checkpoint, load_weights
from lapa_ray.models.colour import PaletteRgb
from lapa_ray.models.quantizer import Quantizer, QuantizerConfig

CHANNEL_STEPS = (1, 2, 4, 8, 8)
HEIGHT, WIDTH = 210, 160
GRID = (7, 5)
NUM_TOKENS = GRID[0] * GRID[1]
OUTPUT_PADDING = ((1, 1), (0, 1), (0, 1), (0, 1), (1, 1))
"""What each transposed convolution adds to come out at exactly 14×10, 27×20, 53×40, 105×80 and 210×160."""
Picture = Tensor | NDArray[np.uint8]


class VqvaeConfig(Config):
    """Encoder, quantiser and decoder."""

    width: int = Field(64, ge=1)
    """Channels of the first convolution; the five have 1, 2, 4, 8 and 8 times as many (64→128→256→512→512)."""
    code_dim: int = Field(64, ge=1)
    """Dimensions of a latent and of a code vector."""
    quantizer: QuantizerConfig = QuantizerConfig()
    """Codebook."""


@dataclass(frozen=True)
class VqvaeOutput:
    """reconstruction float [B, 3, 210, 160] in [−1, 1]; codes int64 [B, 35], row-major; quantizer_loss scalar."""

    reconstruction: Tensor
    codes: Tensor
    quantizer_loss: Tensor


class Vqvae(nn.Module):
    """Frames are RGB float [B, 3, 210, 160] in [−1, 1]."""

    def __init__(self, config: VqvaeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _encoder(config)
        self.quantizer = Quantizer(config.code_dim, config.quantizer)
        self.decoder = _decoder(config)
        # What tensor cores want, and faster than the plain layout on CPUs too.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, frame_t: Tensor, frame_t1: Tensor) -> VqvaeOutput:
        """Encode the pair, quantise, and reconstruct frame t+1 from the codes alone."""
        quantised, codes, loss = self.quantizer(self.latents(frame_t, frame_t1))
        return VqvaeOutput(self._decode(quantised), codes, loss)

    def latents(self, frame_t: Tensor, frame_t1: Tensor) -> Tensor:
        """Latents before quantisation, float [B, 35, code_dim], row-major."""
        pair = torch.cat([frame_t, frame_t1], dim=1).contiguous(memory_format=torch.channels_last)
        grid: Tensor = self.encoder(pair)
        return grid.flatten(2).transpose(1, 2).contiguous()

    @torch.no_grad()
    def encode_pair(self, frame_t: Tensor, frame_t1: Tensor) -> Tensor:
        """Codes int64 [B, 35] of pairs; the model must be in eval mode, else the codebook would move."""
        codes: Tensor = self.quantizer(self.latents(frame_t, frame_t1))[1]
        return codes

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Frame t+1, RGB float [B, 3, 210, 160] in [−1, 1], of codes int64 [B, 35]."""
        return self._decode(self.quantizer.look_up(codes))

    def _decode(self, quantised: Tensor) -> Tensor:
        grid = quantised.transpose(1, 2).unflatten(2, GRID)
        frame: Tensor = self.decoder(grid.contiguous(memory_format=torch.channels_last))
        return frame


def load_vqvae(artefact: Artefact) -> Vqvae:
    """The best checkpoint of a vqvae artefact, on the CPU, in eval mode. Raises `LapaError` if it does not fit."""
    return read_vqvae(artefact.path / "checkpoints" / "best.pt", VqvaeConfig(**artefact.manifest.config["model"]))


def read_vqvae(checkpoint: Path, config: VqvaeConfig) -> Vqvae:
    """The model in `checkpoint`, on the CPU, in eval mode. Raises `LapaError` if it is not of `config`."""
    model = Vqvae(config)
    load_weights(model, load_checkpoint(checkpoint)["model"], checkpoint)
    return model.eval()


class PairEncoder:
    """One pair of pictures to its codes: what a player or a notebook needs."""

    def __init__(self, model: Vqvae, palette: PaletteRgb | None = None) -> None:
        """`palette` is needed for pictures of palette indices alone; it must be on the model's device."""
        self._model, self._palette = model.eval(), palette

    def encode_pair(self, frame_t: Picture, frame_t1: Picture) -> Tensor:
        """Codes int64 [35] of two pictures, uint8 [210, 160] palette indices or uint8 [210, 160, 3] RGB.

        Raises `ValueError` for pictures of another shape or type, or for indices without a palette.
        """
        return self._model.encode_pair(self._rgb(frame_t), self._rgb(frame_t1))[0]

    def _rgb(self, picture: Picture) -> Tensor:
        pixels = torch.as_tensor(picture).to(next(self._model.parameters()).device)
        if pixels.dtype != torch.uint8 or pixels.shape not in {(HEIGHT, WIDTH), (HEIGHT, WIDTH, 3)}:
            raise ValueError(
                f"a picture is uint8 [{HEIGHT}, {WIDTH}] or [{HEIGHT}, {WIDTH}, 3], "
                f"not {pixels.dtype} {list(pixels.shape)}"
            )
        if pixels.ndim == 3:
            return pixels[None].permute(0, 3, 1, 2).float() / 127.5 - 1
        if self._palette is None:
            raise ValueError("a picture of palette indices needs a palette; give PairEncoder one, or RGB pictures")
        rgb: Tensor = self._palette(pixels[None])
        return rgb


def _encoder(config: VqvaeConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 6
    for step in CHANNEL_STEPS:
        width = config.width * step
        # No bias before a normalisation that would take it away again.
        layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.Conv2d(channels, config.code_dim, 1))


def _decoder(config: VqvaeConfig) -> nn.Sequential:
    widths = [config.width * step for step in reversed(CHANNEL_STEPS)]
    layers: list[nn.Module] = [nn.Conv2d(config.code_dim, widths[0], 1)]
    for width, after, padding in zip(widths, [*widths[1:], 3], OUTPUT_PADDING, strict=True):
        is_last = after == 3
        layers.append(nn.ConvTranspose2d(width, after, 3, stride=2, padding=1, output_padding=padding, bias=is_last))
        layers += [nn.Tanh()] if is_last else [nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)
