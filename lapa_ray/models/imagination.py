"""Imagination: a world model run on its own predictions, and the pictures that the VQ-VAE makes of them."""

from __future__ import annotations

import torch
from torch import Tensor

from lapa_ray.models.vqvae import Vqvae
from lapa_ray.models.world_model import WorldModel


@torch.no_grad()
def rollout(
    model: WorldModel,
    codes: Tensor,
    actions: Tensor,
    *,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Open loop: `codes` int64 [B, 35] and `actions` int64 [B, H] → predicted codes int64 [B, H, 35].

    `codes` stand for the pair that ends where the first action is taken; from then on the model sees its own
    predictions. Temperature 0 takes the most likely code of each position, otherwise `generator` draws it.
    """
    imagined = []
    for action in actions.unbind(dim=1):
        codes = _choose(model(codes, action), temperature, generator)
        imagined.append(codes)
    return torch.stack(imagined, dim=1)


def decode_rollout(vqvae: Vqvae, codes: Tensor) -> Tensor:
    """Pictures RGB in [−1, 1], float [B, H, 3, 210, 160], of imagined `codes` int64 [B, H, 35]."""
    return vqvae.decode(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])


def _choose(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    if temperature == 0:
        return logits.argmax(dim=-1)
    chances = (logits / temperature).softmax(dim=-1)
    return torch.multinomial(chances.flatten(0, 1), 1, generator=generator).view(logits.shape[:2])
