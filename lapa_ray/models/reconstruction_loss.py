"""The reconstruction loss of the VQ-VAE: how far a reconstruction is from frame t+1, and which pixels count.

Copy-last is close to the truth on all but 0.7 % of the pixels, so a plain mean hardly asks for what moves.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch.nn.functional as F  # noqa: N812
from pydantic import Field
from torch import Tensor, nn

from lapa_ray.core.config import Config
from lapa_ray.models.perceptual import AgentDistance, VggDistance
from lapa_ray.models.vqvae import Vqvae, VqvaeOutput


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


class ReconstructionLoss(nn.Module):
    """Weighted mean of the pixels' errors, plus perceptual distances."""

    def __init__(self, config: LossConfig, agent: AgentDistance | None = None, vgg: VggDistance | None = None) -> None:
        super().__init__()
        self._config, self.agent, self.vgg = config, agent, vgg

    def forward(
        self, model: Vqvae, output: VqvaeOutput, frame_t: Tensor, frame_t1: Tensor, changed: Tensor
    ) -> dict[str, Tensor]:
        """Parts that add up to the loss, by name; frames RGB [B, 3, 210, 160] in [−1, 1], `changed` bool [B, 210, 160].

        Cross-entropy has no gradient by way of the reconstruction, so perceptual distances see the expected colour.
        """
        config = self._config
        classes = model.classes(frame_t1) if config.kind == "cross_entropy" else None
        errors = self._errors(model, output, frame_t1, classes)
        weights = self._weights(model, classes, changed)
        parts = {"reconstruction_loss": (weights * errors).sum() / weights.sum()}
        if config.worst_pixel_weight:
            parts["worst_pixel_loss"] = config.worst_pixel_weight * errors.flatten(1).amax(dim=1).mean()
        if self.agent is not None or self.vgg is not None:
            shown = model.expected_picture(output)
            if self.agent is not None:
                parts["agent_loss"] = config.agent_weight * self.agent(shown, frame_t1, frame_t)
            if self.vgg is not None:
                parts["vgg_loss"] = config.vgg_weight * self.vgg(shown, frame_t1)
        return parts

    def _errors(self, model: Vqvae, output: VqvaeOutput, frame_t1: Tensor, classes: Tensor | None) -> Tensor:
        """Of each pixel, float [B, 210, 160]."""
        if classes is not None:
            # The layout in which the logits lie: over their last dimension it is faster than over their second.
            logits = output.shown.permute(0, 2, 3, 1).flatten(0, 2)
            return F.cross_entropy(logits, classes.flatten(), reduction="none").view(classes.shape)
        difference = model.picture(output) - frame_t1
        return (difference.square() if self._config.kind == "mse" else difference.abs()).mean(dim=1)

    def _weights(self, model: Vqvae, classes: Tensor | None, changed: Tensor) -> Tensor:
        """Of each pixel, float [B, 210, 160]."""
        weights = 1 + self._config.changed_pixel_weight * changed
        if classes is None or not self._config.rare_colour_power:
            return weights
        return model.rarities(self._config.rare_colour_power)[classes] + weights - 1
