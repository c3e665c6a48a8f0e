"""The reconstruction loss of the VQ-VAE: how far a reconstruction is from frame t+1, and which pixels count.

Copy-last is close to the truth on all but 0.7 % of the pixels, so a plain mean hardly asks for what moves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    average: Literal["batch", "pair"] = "batch"
    """The weighted mean is taken over all pixels of a batch, or over each pair's and then over the pairs: so that one
    whose maze flashes does not weigh as much as ten in which sprites move."""
    changed_pixel_weight: float = Field(0.0, ge=0)
    """Extra weight of pixels that change from t to t+1; 0 is the source's plain mean."""
    rare_colour_power: float = Field(0.0, ge=0, le=1)
    """A pixel weighs as much as its colour's share of all pixels to the power of minus this, over the mean; 0 all
    alike. Sprites are a few pixels of colours of their own. Needs model.output palette, whose classes it counts."""
    common_share: float = Field(1.0, gt=0, le=1)
    """Share of the common places that a training looks at, drawn anew for each batch; each counts for as many as it
    stands for. Places (patches of model.patch) where something changes or shows a colour of less than 1 % of all pixels
    are always looked at. So an update takes less time for the same loss on average. Needs model.output palette."""
    expected_colour_weight: float = Field(0.0, ge=0)
    """Weight of the squared error of the expected colour, in RGB in [−1, 1], without logit adjustment, beside
    cross-entropy, to which all colours are equally different. Changed pixels weigh more in it too; rare ones do not.
    Needs model.output palette."""
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
    bool, weights float that add up to 1 (None: all alike), and where colours are classes those of frame t+1, int64, and
    the weights of the expected colour's errors, if these count.

    Where only some places are looked at: `places` int64 [n], for `Vqvae.forward`, and weights and classes are of them
    alone, [n, patch²]; each then weighs for as many as it stands for, so that they add up to 1 on average.
    """

    frame_t: Tensor
    frame_t1: Tensor
    changed: Tensor
    weights: Tensor | None
    classes: Tensor | None = None
    colour_weights: Tensor | None = None
    places: Tensor | None = None


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
        has_classes = self._config.kind == "cross_entropy"
        if not has_classes and not self._config.changed_pixel_weight:
            return Target(frame_t, frame_t1, changed, weights=None)
        weights = 1 + self._config.changed_pixel_weight * changed
        if not has_classes:
            return Target(frame_t, frame_t1, changed, self._normalised(weights))
        classes = model.classes(frame_t1) if classes is None else classes
        colour_weights = self._normalised(weights) if self._config.expected_colour_weight else None
        if self._config.rare_colour_power:
            weights = look_up(model.rarities(self._config.rare_colour_power), classes) + weights - 1
        target = Target(frame_t, frame_t1, changed, self._normalised(weights), classes, colour_weights)
        if samples and self._config.common_share < 1:
            return self._sampled(target, changed | look_up(model.shares < COMMON_SHARE, classes), model.config.patch)
        return target

    def forward(self, model: Vqvae, output: VqvaeOutput, target: Target) -> dict[str, Tensor]:
        """Parts that add up to the loss, by name; `output` at the target's places, if it has some.

        Cross-entropy has no gradient by way of the reconstruction, so perceptual distances see the expected colour.
        """
        parts = self._of_pixels(model, output, target)
        if self.agent is not None or self.vgg is not None:
            shown = model.expected_picture(output)
            if self.agent is not None:
                parts["agent_loss"] = self._config.agent_weight * self.agent(shown, target.frame_t1, target.frame_t)
            if self.vgg is not None:
                parts["vgg_loss"] = self._config.vgg_weight * self.vgg(shown, target.frame_t1)
        return parts

    def _of_pixels(self, model: Vqvae, output: VqvaeOutput, target: Target) -> dict[str, Tensor]:
        config = self._config
        if target.weights is None and not config.worst_pixel_weight:  # in one pass over the pictures
            mean = F.mse_loss if config.kind == "mse" else F.l1_loss
            return {"reconstruction_loss": mean(model.picture(output), target.frame_t1)}
        errors = self._errors(model, output, target)
        parts = {"reconstruction_loss": errors.mean() if target.weights is None else (target.weights * errors).sum()}
        if target.colour_weights is not None:
            errors_of_colour = _colour_errors(model, output.shown, target)
            parts["colour_loss"] = config.expected_colour_weight * (target.colour_weights * errors_of_colour).sum()
        if config.worst_pixel_weight:
            parts["worst_pixel_loss"] = config.worst_pixel_weight * errors.flatten(1).amax(dim=1).mean()
        return parts

    def _normalised(self, weights: Tensor) -> Tensor:
        """What each pixel has of the mean, float [B, 210, 160]; they add up to 1."""
        if self._config.average == "batch":
            return weights / weights.sum()
        return weights / (len(weights) * weights.sum(dim=(1, 2), keepdim=True))

    def _sampled(self, target: Target, always: Tensor, patch: int) -> Target:
        """The target at places drawn by `common_share`, and wherever `always`, bool [B, 210, 160], is true."""
        kept = to_patches(always[:, None], patch).any(dim=1).flatten()
        drawn = kept | (torch.rand(kept.shape, device=kept.device) < self._config.common_share)
        drawn[0] |= ~drawn.any()  # a loss of nothing has no gradient
        places = drawn.nonzero()[:, 0]
        counts = torch.where(kept[places], 1.0, 1 / self._config.common_share)[:, None]

        def at_places(pixels: Tensor) -> Tensor:
            return _at(pixels, places, patch)

        assert target.classes is not None
        assert target.weights is not None
        colour_weights = None if target.colour_weights is None else counts * at_places(target.colour_weights)
        return replace(
            target,
            weights=counts * at_places(target.weights),
            classes=at_places(target.classes),
            colour_weights=colour_weights,
            places=places,
        )

    def _errors(self, model: Vqvae, output: VqvaeOutput, target: Target) -> Tensor:
        """Of each pixel of the target, float [B, 210, 160] or [n, patch²]."""
        if target.classes is None:
            difference = model.picture(output) - target.frame_t1
            return (difference.square() if self._config.kind == "mse" else difference.abs()).mean(dim=1)
        if target.places is not None:
            return F.cross_entropy(output.shown, target.classes, reduction="none")
        # The layout in which the logits lie: over their last dimension it is faster than over their second.
        logits = output.shown.permute(0, 2, 3, 1).flatten(0, 2)
        return F.cross_entropy(logits, target.classes.flatten(), reduction="none").view(target.classes.shape)


def _colour_errors(model: Vqvae, logits: Tensor, target: Target) -> Tensor:
    """Squared error of each pixel's expected colour against that of its class, mean over RGB in [−1, 1], float like the
    target's weights.
    """
    assert target.classes is not None
    true = F.embedding(target.classes, model.colours).movedim(-1, 1)
    return (model.expected_colour(logits) - true).square().mean(dim=1)


def look_up(table: Tensor, classes: Tensor) -> Tensor:
    """`table[classes]` for a table [n] and classes of any shape; by index_select, which on a CPU is faster."""
    return table.index_select(0, classes.flatten()).view(classes.shape)


def _at(pixels: Tensor, places: Tensor, patch: int) -> Tensor:
    """Of a number a pixel, [B, height, width], those of the patches `places` [n], [n, patch²]; 0 beyond the edge."""
    return to_patches(pixels[:, None], patch).permute(0, 2, 3, 1).flatten(0, 2)[places]
