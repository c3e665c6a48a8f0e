"""The reconstruction loss of the VQ-VAE: how far a reconstruction is from frame t+1, and which pixels count.

Copy-last is close to the truth on all but 0.7 % of the pixels, so a plain mean hardly asks for what moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field, model_validator
from torch import Tensor, nn

from lapa_ray.core.config import Config
from lapa_ray.models.patches import to_patches
from lapa_ray.models.perceptual import AgentDistance, VggDistance
from lapa_ray.models.vqvae import Vqvae, VqvaeOutput

COMMON_SHARE = 0.01
"""Colours that more of all pixels have are common: floor, walls, black."""


class LossConfig(Config):
    """Reconstruction loss; the default is the source's plain mean of squares."""

    kind: Literal["mse", "l1", "cross_entropy"] = "mse"
    """Error of a pixel: squared or absolute, mean over RGB in [−1, 1]; cross_entropy of its colour, which goes with
    model.output palette."""
    changed_pixel_weight: float = Field(0.0, ge=0)
    """Extra weight of pixels that change from t to t+1; 0 is the source's plain mean."""
    rare_colour_power: float = Field(0.0, ge=0, le=1)
    """A pixel weighs as much as its colour's share of all pixels to the power of minus this, over the mean; 0 all
    alike. Sprites are a few pixels of colours of their own. Needs model.output palette, whose classes it counts."""
    common_share: float = Field(1.0, gt=0, le=1)
    """Share of the common places that a training looks at, drawn anew for each batch; each counts for as many as it
    stands for. Places (patches of model.patch) where something changes or shows a colour of less than 1 % of all pixels
    are always looked at. So an update takes less time for the same loss on average. Needs model.output palette."""
    worst_pixel_weight: float = Field(0.0, ge=0)
    """Weight of the worst pixel of each picture, beside the mean."""
    agent_weight: float = Field(0.0, ge=0)
    """Weight of the distance in the features of a trained agent."""
    agent: Path | None = None
    """Agent artefact whose convolutions are looked through."""
    vgg_weight: float = Field(0.0, ge=0)
    """Weight of the distance in the features of VGG-16."""
    vgg_weights: Path | None = None
    """File with the weights of torchvision's vgg16."""

    @model_validator(mode="after")
    def _check_places(self) -> Self:
        whole = [name for name in ("worst_pixel_weight", "agent_weight", "vgg_weight") if getattr(self, name)]
        if self.common_share < 1 and whole:
            raise ValueError(f"common_share: {whole[0]} needs whole pictures; leave one of them out")
        return self


@dataclass(frozen=True)
class Target:
    """What a reconstruction is to be: frames RGB [B, 3, 210, 160] in [−1, 1]; of the pixels, [B, 210, 160], changed
    bool, weights float, and int64 classes of frame t+1 where colours are classes.

    Where only some places are looked at: `places` int64 [n], for `Vqvae.forward`, and how many each stands for, float
    [n, 1].
    """

    frame_t: Tensor
    frame_t1: Tensor
    changed: Tensor
    weights: Tensor
    classes: Tensor | None = None
    places: Tensor | None = None
    counts: Tensor | None = None


class ReconstructionLoss(nn.Module):
    """Weighted mean of the pixels' errors, plus perceptual distances."""

    def __init__(self, config: LossConfig, agent: AgentDistance | None = None, vgg: VggDistance | None = None) -> None:
        super().__init__()
        self._config, self.agent, self.vgg = config, agent, vgg

    def target(
        self,
        model: Vqvae,
        frame_t: Tensor,
        frame_t1: Tensor,
        changed: Tensor,
        classes: Tensor | None = None,
        *,
        samples: bool = False,
    ) -> Target:
        """The target of a pair; `classes` of frame t+1 if the caller need not ask for them by colour, which is slow.

        With `samples` the places are drawn that `common_share` asks for.
        """
        weights = 1 + self._config.changed_pixel_weight * changed
        if self._config.kind != "cross_entropy":
            return Target(frame_t, frame_t1, changed, weights)
        classes = model.classes(frame_t1) if classes is None else classes
        if self._config.rare_colour_power:
            weights = look_up(model.rarities(self._config.rare_colour_power), classes) + weights - 1
        if not samples or self._config.common_share == 1:
            return Target(frame_t, frame_t1, changed, weights, classes)
        always = changed | look_up(model.shares < COMMON_SHARE, classes)
        return Target(frame_t, frame_t1, changed, weights, classes, *self._draw(always, model.config.patch))

    def forward(self, model: Vqvae, output: VqvaeOutput, target: Target) -> dict[str, Tensor]:
        """Parts that add up to the loss, by name; `output` at the target's places, if it has some.

        Cross-entropy has no gradient by way of the reconstruction, so perceptual distances see the expected colour.
        """
        config = self._config
        if target.places is not None:
            return {"reconstruction_loss": _mean_at_places(output.shown, target, model.config.patch)}
        errors = self._errors(model, output, target)
        parts = {"reconstruction_loss": (target.weights * errors).sum() / target.weights.sum()}
        if config.worst_pixel_weight:
            parts["worst_pixel_loss"] = config.worst_pixel_weight * errors.flatten(1).amax(dim=1).mean()
        if self.agent is not None or self.vgg is not None:
            shown = model.expected_picture(output)
            if self.agent is not None:
                parts["agent_loss"] = config.agent_weight * self.agent(shown, target.frame_t1, target.frame_t)
            if self.vgg is not None:
                parts["vgg_loss"] = config.vgg_weight * self.vgg(shown, target.frame_t1)
        return parts

    def _draw(self, always: Tensor, patch: int) -> tuple[Tensor, Tensor]:
        """Places to look at and how many each stands for; `always` bool [B, 210, 160]."""
        kept = to_patches(always[:, None], patch).any(dim=1).flatten()
        drawn = kept | (torch.rand(kept.shape, device=kept.device) < self._config.common_share)
        drawn[0] |= ~drawn.any()  # a loss of nothing has no gradient
        places = drawn.nonzero()[:, 0]
        return places, torch.where(kept[places], 1.0, 1 / self._config.common_share)[:, None]

    def _errors(self, model: Vqvae, output: VqvaeOutput, target: Target) -> Tensor:
        """Of each pixel, float [B, 210, 160]."""
        if target.classes is not None:
            # The layout in which the logits lie: over their last dimension it is faster than over their second.
            logits = output.shown.permute(0, 2, 3, 1).flatten(0, 2)
            return F.cross_entropy(logits, target.classes.flatten(), reduction="none").view(target.classes.shape)
        difference = model.picture(output) - target.frame_t1
        return (difference.square() if self._config.kind == "mse" else difference.abs()).mean(dim=1)


def _mean_at_places(logits: Tensor, target: Target, patch: int) -> Tensor:
    """Weighted cross-entropy, on average over the draws of places that of all pixels; logits float [n, K, patch²]."""
    assert target.classes is not None
    assert target.places is not None
    assert target.counts is not None
    errors = F.cross_entropy(logits, _at(target.classes, target.places, patch), reduction="none")
    weights = target.counts * _at(target.weights, target.places, patch)
    return (weights * errors).sum() / target.weights.sum()


def look_up(table: Tensor, classes: Tensor) -> Tensor:
    """`table[classes]` for a table [n] and classes of any shape; by index_select, which on a CPU is faster."""
    return table.index_select(0, classes.flatten()).view(classes.shape)


def _at(pixels: Tensor, places: Tensor, patch: int) -> Tensor:
    """Of a number a pixel, [B, height, width], those of the patches `places` [n], [n, patch²]; 0 beyond the edge."""
    return to_patches(pixels[:, None], patch).permute(0, 2, 3, 1).flatten(0, 2)[places]
