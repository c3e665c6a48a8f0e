"""Imagination: a world model run on its own predictions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Dynamics = Callable[[Tensor, Tensor], Tensor]
"""Codes int64 [B, P] and action int64 [B] → logits [B, P, codebook_size]."""


@torch.no_grad()
def rollout(
    dynamics: Dynamics,
    codes: Tensor,
    actions: Tensor,
    *,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Open loop: `codes` int64 [B, P] and `actions` int64 [B, H] → predicted codes int64 [B, H, P].

    `codes` stand for the pair that ends where the first action is taken; from then on the model sees its own
    predictions. Temperature 0 takes the most likely code of each position, otherwise `generator` draws it.
    """
    imagined = []
    for action in actions.unbind(dim=1):
        codes = _choose(dynamics(codes, action), temperature, generator)
        imagined.append(codes)
    return torch.stack(imagined, dim=1)


def _choose(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    if temperature == 0:
        return logits.argmax(dim=-1)
    chances = (logits / temperature).softmax(dim=-1)
    return torch.multinomial(chances.flatten(0, 1), 1, generator=generator).view(logits.shape[:2])
