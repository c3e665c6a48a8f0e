"""The VQ-VAE: a pair of frames in, a grid of codes for what leads from one to the other, the second frame back.

The source's final model is the default: both frames concatenated (6 channels), five stride-2 convolutions, no
conditioning of the decoder. Variants: fewer tokens, smaller pictures, grey, colours as classes, a decoder that sees
frame t at the grid (never by skip connections). Knows no dataset and no training loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lapa_ray.core.artefact import Artefact
from lapa_ray.core.config import Config
from lapa_ray.core.errors import LapaError
from lapa_ray.models.checkpoint import load_checkpoint, load_weights
from lapa_ray.models.colour import Colour, PaletteRgb
from lapa_ray.models.conditioning import ConditioningKind, build_conditioning
from lapa_ray.models.convolutions import LADDER, Way, encoder_stack
from lapa_ray.models.decoder import Decoder
from lapa_ray.models.quantizer import Quantizer, QuantizerConfig

CHANNEL_STEPS = (1, 2, 4, 8)
HEIGHT, WIDTH = LADDER[0]
GRIDS = {f"{height}x{width}": LADDER.index((height, width)) for height, width in LADDER[5:]}
"""Steps of the ladder down to each grid."""
LEAST_SHARE = 1e-6
"""Of all pixels: what a class without a colour starts from, less than a pixel in 25 pictures."""
LEAST_RARE_SHARE = 1e-4
"""Rarer than this, three pixels of a picture, no colour weighs more."""
Picture = Tensor | NDArray[np.uint8]


class VqvaeConfig(Config):
    """Encoder, quantiser and decoder."""

    width: int = Field(64, ge=1)
    """Channels of the first convolution; the others have 2, 4, 8, 8 ... times as many (64→128→256→512→512)."""
    channels: tuple[PositiveInt, ...] | None = None
    """Channels of each convolution, in place of what width says."""
    code_dim: int = Field(64, ge=1)
    """Dimensions of a latent and of a code vector."""
    quantizer: QuantizerConfig = QuantizerConfig()
    """Codebook."""
    grid: Literal["7x5", "4x3", "2x2", "1x1"] = "7x5"
    """Codes of a pair, rows x columns; a smaller grid takes more convolutions."""
    shrink: Literal[1, 2, 4] = 1
    """Pictures are shrunk to 1/shrink of their height and width (105×80, 53×40), and what comes out is enlarged."""
    patch: Literal[1, 2, 4] = 1
    """Pixels a side of the patches whose pixels are the channels that go in, and that come out: in place of the
    convolutions at and above that size, which take most of the time on a CPU (Shi et al. 2016)."""
    colour: Colour = "rgb"
    """What the model sees and makes. Figures of grey are against grey."""
    output: Literal["tanh", "sigmoid", "palette"] = "tanh"
    """Last layer: tanh with pictures in [−1, 1], sigmoid with pictures in [0, 1], or a class for each pixel among the
    commonest colours of the training frames."""
    num_colours: int = Field(16, ge=2, le=256)
    """Only with output palette: number of colours told apart."""
    picture: Literal["arg_max", "mean"] = "arg_max"
    """Only with output palette: a pixel's likeliest colour, which is crisp, or the mean of all by their probability,
    which is nearest where the model is in doubt."""
    logit_adjustment: float = Field(0.0, ge=0, le=1)
    """Only with output palette: in pictures, so many times the logarithm of each colour's share of all pixels is added
    to its logit (Menon et al. 2021). As much as loss.rare_colour_power takes back what that weighs, where no pixel
    weighs more for having changed."""
    background: bool = False
    """The decoder adds a learnt picture, the same for all pairs, so that mazes and panels need not come by codes."""
    conditioning: ConditioningKind = "none"
    """What the decoder sees of frame t, reduced to the grid: nothing; concat: beside the codes; film: a scale and a
    shift of every channel in each layer; cross_attention: each code looks at all of it."""

    @classmethod
    def recorded(cls, told: Mapping[str, Any]) -> Self:
        """Of an artefact, see `QuantizerConfig.recorded`."""
        idle = {"num_colours"} if told.get("output", "tanh") != "palette" else set()
        fields = {name: value for name, value in told.items() if name not in idle}
        return cls(**fields | {"quantizer": QuantizerConfig.recorded(told.get("quantizer", {}))})

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.channels is not None and len(self.channels) != len(self.sizes) - 1:
            raise ValueError(
                f"channels: this grid, shrink and patch take {len(self.sizes) - 1} layers; got {len(self.channels)}"
            )
        for name in ("num_colours", "picture", "logit_adjustment"):
            if self.output != "palette" and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: needs model.output palette; leave it out, or set output")
        return self

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Heights and widths from the picture that goes in down to the grid."""
        first = self.shrink.bit_length() - 1
        return LADDER[first], *LADDER[first + max(1, self._patch_steps) : GRIDS[self.grid] + 1]

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each convolution."""
        count, skipped = len(self.sizes) - 1, max(0, self._patch_steps - 1)
        steps = (*CHANNEL_STEPS, *[CHANNEL_STEPS[-1]] * count)[skipped : skipped + count]
        return self.channels or tuple(self.width * step for step in steps)

    @property
    def _patch_steps(self) -> int:
        """Steps of the ladder that patches take at once."""
        return self.patch.bit_length() - 1

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of codes."""
        return self.sizes[-1]

    @property
    def num_tokens(self) -> int:
        """Codes of a pair."""
        rows, columns = self.grid_size
        return rows * columns

    @property
    def num_channels(self) -> int:
        """Of a picture as the network sees it."""
        return 1 if self.colour == "grey" else 3


@dataclass(frozen=True)
class VqvaeOutput:
    """What the last layer gives, float [B, channels or num_colours, 210, 160], of which `Vqvae.picture` makes the
    reconstruction (at chosen places, float [n, channels or num_colours, patch²]); codes int64 [B, tokens], row-major;
    quantizer_loss scalar.
    """

    shown: Tensor
    codes: Tensor
    quantizer_loss: Tensor


class Vqvae(nn.Module):
    """Frames are RGB float [B, 3, 210, 160] in [−1, 1], whatever the variant; of grey all three channels are equal."""

    def __init__(self, config: VqvaeConfig) -> None:
        super().__init__()
        self.config, self.checkpoints_gradients = config, False
        channels = config.num_channels
        way = Way(config.widths, config.sizes, config.patch)
        self.encoder = encoder_stack(2 * channels, way, config.code_dim)
        self.quantizer = Quantizer(config.code_dim, config.quantizer)
        self.conditioning = build_conditioning(config.conditioning, channels, way)
        out = config.num_colours if config.output == "palette" else channels
        self.decoder = Decoder(config.code_dim, way, out, background=config.background)
        if config.output == "palette":
            self.register_buffer("colours", torch.zeros(config.num_colours, 3))
            self.register_buffer("shares", torch.zeros(config.num_colours))
        self.colours: Tensor
        self.shares: Tensor
        # What tensor cores want, and faster than the plain layout on CPUs too.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, frame_t: Tensor, frame_t1: Tensor, places: Tensor | None = None) -> VqvaeOutput:
        """Encode the pair, quantise, and decode frame t+1 from the codes (and frame t, if conditioned).

        With `places` (see `Decoder`) what is shown there alone; not with shrunk pictures.
        """
        quantised, codes, loss = self.quantizer(self.latents(frame_t, frame_t1))
        return VqvaeOutput(self._decoded(quantised, frame_t, places), codes, loss)

    def picture(self, output: VqvaeOutput) -> Tensor:
        """The reconstruction of frame t+1, RGB float [B, 3, 210, 160] in [−1, 1]; of a likeliest colour no gradient."""
        return self._picture(output.shown)

    def latents(self, frame_t: Tensor, frame_t1: Tensor) -> Tensor:
        """Latents before quantisation, float [B, tokens, code_dim], row-major."""
        pair = torch.cat([self._seen(frame_t), self._seen(frame_t1)], dim=1)
        grid: Tensor = self._run(self.encoder, pair.contiguous(memory_format=torch.channels_last))
        return grid.flatten(2).transpose(1, 2).contiguous()

    @torch.no_grad()
    def encode_pair(self, frame_t: Tensor, frame_t1: Tensor) -> Tensor:
        """Codes int64 [B, tokens] of pairs; the model must be in eval mode, else the codebook would move."""
        codes: Tensor = self.quantizer(self.latents(frame_t, frame_t1))[1]
        return codes

    @torch.no_grad()
    def decode(self, codes: Tensor, frame_t: Tensor | None = None) -> Tensor:
        """Frame t+1, RGB float [B, 3, 210, 160] in [−1, 1], of codes int64 [B, tokens].

        A conditioned decoder needs `frame_t`, and raises `ValueError` without it; another one does not look at it.
        """
        return self._picture(self._decoded(self.quantizer.look_up(codes), frame_t))

    @torch.no_grad()
    def code_vectors(self) -> Tensor:
        """What the decoder gets of each code, float [codebook_size, code_dim]."""
        codes = torch.arange(self.config.quantizer.codebook_size, device=_device(self))
        return self.quantizer.look_up(codes[None])[0]

    def expected_picture(self, output: VqvaeOutput) -> Tensor:
        """The reconstruction; where colours are classes, their mean by probability, through which gradients go.

        Without logit adjustment, as it is trained.
        """
        return self.expected_colour(output.shown) if self.config.output == "palette" else self.picture(output)

    def expected_colour(self, logits: Tensor) -> Tensor:
        """The mean of all classes' colours by their probability, RGB float [B, 3, ...] in [−1, 1], of logits float
        [B, num_colours, ...]; float32, under autocast too, whose product of matrices would round it.
        """
        with torch.autocast(logits.device.type, enabled=False):
            hidden = logits.float().movedim(1, -1).masked_fill(~self._used_colours, -torch.inf)
            return (hidden.softmax(dim=-1) @ self.colours).movedim(-1, 1)

    def set_colours(self, colours: Tensor, shares: Tensor) -> None:
        """The classes of output palette: RGB float [n, 3] in [−1, 1], n ≤ num_colours, and how much of the training
        pixels each has, float [n] that add up to 1.

        Equal colours, as several of a palette are in grey, make one class. The last layer starts at these shares, so
        that training need not find them out.
        """
        self.colours.zero_()
        self.shares.zero_()
        different, which = colours.unique(dim=0, return_inverse=True)
        self.colours[: len(different)] = different
        self.shares.index_add_(0, which, shares.to(self.shares))
        with torch.no_grad():
            self.decoder.set_bias(self.shares.clamp(min=LEAST_SHARE).log())

    def classes(self, frames: Tensor) -> Tensor:
        """The nearest class of each pixel, int64 [B, 210, 160], of RGB [B, 3, 210, 160]."""
        # |f − c|² without |f|², which is the same for all: a product of matrices.
        offset = self.colours.square().sum(dim=1).where(self._used_colours, torch.inf)
        return (frames.permute(0, 2, 3, 1) @ (2 * self.colours.T) - offset).argmax(dim=-1)

    def rarities(self, power: float) -> Tensor:
        """Each class's share to the power of −`power`, float [num_colours], 1 in the mean over all pixels."""
        rare = self.shares.clamp(min=LEAST_RARE_SHARE) ** -power
        return rare / (rare * self.shares).sum()

    @property
    def _used_colours(self) -> Tensor:
        """Which classes have a colour, bool [num_colours]: there may be fewer colours than classes."""
        return self.shares > 0

    def _seen(self, frames: Tensor) -> Tensor:
        """Frames as the network sees them: size, channels, range."""
        frames = frames[:, : self.config.num_channels]
        if self.config.shrink > 1:
            frames = F.interpolate(frames, size=self.config.sizes[0], mode="area")
        return (frames + 1) / 2 if self.config.output == "sigmoid" else frames

    def _decoded(self, quantised: Tensor, frame_t: Tensor | None, places: Tensor | None = None) -> Tensor:
        """What the last layer gives, at the size of frames."""
        if frame_t is None and self.config.conditioning != "none":
            raise ValueError(f"conditioning {self.config.conditioning}: the decoder needs frame t beside the codes")
        if places is not None and self.config.shrink > 1:
            raise ValueError(f"places: not with shrink {self.config.shrink}, of which whole pictures are enlarged")
        seen = None if frame_t is None else self._seen(frame_t)
        grid = quantised.transpose(1, 2).unflatten(2, self.config.grid_size)
        grid = grid.contiguous(memory_format=torch.channels_last)
        shown: Tensor = self._run(self.decoder, grid, self.conditioning, seen, places)
        if self.config.shrink > 1:
            shown = F.interpolate(shown, size=(HEIGHT, WIDTH), mode="bilinear", align_corners=False)
        return shown

    def _run(self, part: nn.Module, *inputs: Any) -> Any:
        """`part` of `inputs`; where gradients are checkpointed, its normalisations count each batch twice."""
        if self.checkpoints_gradients and self.training:
            return checkpoint(part, *inputs, use_reentrant=False)
        return part(*inputs)

    def _picture(self, shown: Tensor) -> Tensor:
        """RGB in [−1, 1] of what the last layer gives."""
        if self.config.output == "palette":
            if self.config.logit_adjustment:
                log_shares = self.shares.clamp(min=LEAST_RARE_SHARE).log()  # as in the weights that it takes back
                shown = shown + self.config.logit_adjustment * log_shares.view(-1, 1, 1)
            return self.expected_colour(shown) if self.config.picture == "mean" else self._likeliest_colour(shown)
        levels = torch.tanh(shown) if self.config.output == "tanh" else 2 * torch.sigmoid(shown) - 1
        return levels.expand(-1, 3, -1, -1)

    def _likeliest_colour(self, logits: Tensor) -> Tensor:
        hidden = logits.masked_fill(~self._used_colours.view(-1, 1, 1), -torch.inf)
        return self.colours[hidden.argmax(dim=1)].permute(0, 3, 1, 2)


def load_vqvae(artefact: Artefact) -> Vqvae:
    """The best checkpoint of a vqvae artefact, on the CPU, in eval mode. Raises `LapaError` if it does not fit."""
    config = VqvaeConfig.recorded(artefact.manifest.config["model"])
    return read_vqvae(artefact.path / "checkpoints" / "best.pt", config)


def read_vqvae(checkpoint: Path, config: VqvaeConfig) -> Vqvae:
    """The model in `checkpoint`, on the CPU, in eval mode. Raises `LapaError` if it is not of `config`."""
    model, weights = Vqvae(config), load_checkpoint(checkpoint)["model"]
    if config.output == "palette" and "shares" not in weights:
        raise LapaError(f"{checkpoint}: of a version that did not keep how common colours are; train it again.")
    load_weights(model, weights, checkpoint)
    return model.eval()


class PairEncoder:
    """One pair of pictures to its codes: what a player or a notebook needs."""

    def __init__(self, model: Vqvae, palette: PaletteRgb | None = None) -> None:
        """`palette` is needed for pictures of palette indices alone: of the model's `colour`, on its device."""
        self._model, self._palette = model.eval(), palette
        self._plain = PaletteRgb(np.empty((0, 3), np.uint8), model.config.colour).to(_device(model))

    def encode_pair(self, frame_t: Picture, frame_t1: Picture) -> Tensor:
        """Codes int64 [tokens] of two pictures, uint8 [210, 160] palette indices or uint8 [210, 160, 3] RGB.

        Raises `ValueError` for pictures of another shape or type, or for indices without a palette.
        """
        return self._model.encode_pair(self._rgb(frame_t), self._rgb(frame_t1))[0]

    def _rgb(self, picture: Picture) -> Tensor:
        pixels = torch.as_tensor(picture).to(_device(self._model))
        if pixels.dtype != torch.uint8 or pixels.shape not in {(HEIGHT, WIDTH), (HEIGHT, WIDTH, 3)}:
            raise ValueError(
                f"a picture is uint8 [{HEIGHT}, {WIDTH}] or [{HEIGHT}, {WIDTH}, 3], "
                f"not {pixels.dtype} {list(pixels.shape)}"
            )
        palette = self._plain if pixels.ndim == 3 else self._palette
        if palette is None:
            raise ValueError("a picture of palette indices needs a palette; give PairEncoder one, or RGB pictures")
        rgb: Tensor = palette(pixels[None])
        return rgb.expand(-1, 3, -1, -1)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
