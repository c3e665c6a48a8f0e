"""A worker's share of a training, and what it does together with the others. Its model in, a network that adds up the
gradients of all out; its number in, the one that all go by out. Knows neither what is trained nor who started the
workers.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from lapa_ray.stages.fit_config import FitResources


@dataclass(frozen=True)
class Share:
    """Which of the workers this is."""

    rank: int = 0
    world_size: int = 1


def wrap(model: nn.Module, share: Share, resources: FitResources) -> nn.Module:
    """`model` as it is trained: with the gradients of all workers where there are several, compiled if asked for."""
    wrapped: Any = model
    if share.world_size > 1:
        from ray.train.torch import prepare_model

        wrapped = prepare_model(model, move_to_device=False)
    made: Any = torch.compile(wrapped) if resources.compile else wrapped
    return made


def added_up(network: Any, *, is_last: bool) -> AbstractContextManager[Any]:
    """Workers exchange the gradients of an update's last batch alone, which then hold those of all."""
    exchanges = hasattr(network, "no_sync") and not is_last
    return network.no_sync() if exchanges else nullcontext()


def agree(value: float, share: Share, how: str) -> float:
    """The least or the greatest `value` of all workers."""
    if share.world_size == 1:
        return value
    tensor = torch.tensor([float(value)])
    if dist.get_backend() == "nccl":
        tensor = tensor.cuda()
    dist.all_reduce(tensor, op=dist.ReduceOp.MIN if how == "min" else dist.ReduceOp.MAX)
    return float(tensor.item())
