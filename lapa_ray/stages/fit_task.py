"""What is trained: the items of an update in, its loss out; a model in, figures of its validation out.

A `Task` holds model, optimiser and data, and is built in the worker that trains it. Knows not the loop that runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lapa_ray.core.metric_log import MetricLog
from lapa_ray.stages.fit_share import Share

Figures = dict[str, float]
OnValidated = Callable[[int, Figures], None]
"""Hears the number of updates made, and the figures of the validation that followed them; not of the last one."""


@dataclass(frozen=True)
class Turn:
    """Which items an update takes: `items` as the loop draws them, int64 [batch], each once an epoch.

    A task whose items come in an order of their own goes by `batch`, from 0, of `epoch`, from 0.
    """

    epoch: int
    batch: int
    items: NDArray[np.int64]


class Task(Protocol):
    """What is trained: built in the worker that trains it."""

    model: nn.Module
    optimizer: torch.optim.Optimizer

    @property
    def num_items(self) -> int:
        """Training items of this worker."""

    def learning_rate(self, epoch: int, progress: float) -> float:
        """Step size of the next update, in epoch `epoch` from 0, with the share `progress` of all updates made."""

    def loss(self, network: nn.Module, turn: Turn) -> tuple[Tensor, dict[str, Tensor]]:
        """Training loss of an update's items by `network` (the model, perhaps wrapped), and what to log of it."""

    def observe(self, update: int, log: MetricLog, folder: Path) -> None:
        """Look at the model after each update, on rank 0 alone: rows for `log`, files in `folder`, named by `update`.

        What is seen changes nothing of what is learnt; a resumed run looks again after updates that it repeats. May
        raise `LapaError` to end a training of which nothing is to be hoped.
        """

    def validate(self, tick: Callable[[float], None]) -> Figures:
        """Figures over the whole validation split, `loss` among them (less is better); asked of rank 0 alone.

        `tick` is to be called after each batch with the share that is done; what it raises ends the validation.
        """

    def state(self) -> dict[str, Any]:
        """What beside model and optimiser a resumed training goes on from; written with each checkpoint, by rank 0."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave on rank 0, its tensors on the CPU; empty from a checkpoint that has none."""


TaskFactory = Callable[[Share, torch.device], Task]
