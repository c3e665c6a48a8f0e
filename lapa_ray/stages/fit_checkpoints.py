"""The checkpoints of a training: its model, its optimiser and how far it has come in, files out, and back.

From the last one a training goes on; the best one, and those that are kept, hold the model alone. Knows not what is
trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from lapa_ray.core.errors import LapaError
from lapa_ray.models.checkpoint import load_checkpoint, save_checkpoint
from lapa_ray.stages.fit_share import Share, agree
from lapa_ray.stages.fit_task import Figures, Task

LAST, BEST = Path("checkpoints", "last.pt"), Path("checkpoints", "best.pt")
KEPT = "update_{:07d}"
"""Name of what is kept of an update, but for its suffix."""


@dataclass
class Standing:
    """How far a training has come, beside what its model and its optimiser know of it."""

    update: int = 0
    best: float = math.inf
    """The least loss of a validation."""
    best_figures: Figures = field(default_factory=dict)
    """All of that validation's figures; empty before the first."""
    validation_due: bool = False
    """Whether a validation is to be made before the next update, on rank 0."""


class Weights:
    """A model's weights and floating-point buffers, of which nothing is to be kept that is no number."""

    def __init__(self, model: nn.Module, share: Share) -> None:
        """Buffers that are no numbers at the start never count: vector-quantize-pytorch has some that it never sets.

        Workers' buffers must be alike by then.
        """
        self._model, self._share = model, share
        self._unset = {name for name, value in model.named_buffers() if not bool(value.isfinite().all())}

    def are_finite(self) -> bool:
        """On all workers; to be asked by all, since normalisations count for each what it has seen."""
        buffers = [value for name, value in self._model.named_buffers() if name not in self._unset]
        values = [value for value in (*self._model.parameters(), *buffers) if value.is_floating_point()]
        is_finite = torch.stack([value.isfinite().all() for value in values]).all()
        return bool(agree(float(is_finite), self._share, "min"))


class Checkpoints:
    """Those of one worker's training in `folder`; rank 0 writes them."""

    def __init__(self, folder: Path, task: Task, scaler: torch.amp.GradScaler, share: Share) -> None:
        self._folder, self._task, self._scaler, self._share = folder, task, scaler, share

    def load(self) -> Standing:
        """Take over the last one, if there is one. Raises `LapaError` if it is damaged."""
        if not (self._folder / LAST).exists():
            return Standing()
        state = load_checkpoint(self._folder / LAST)
        self._task.model.load_state_dict(state["model"])
        self._task.optimizer.load_state_dict(state["optimizer"])
        self._task.load_state(state.get("task", {}))  # none in those of before tasks had any
        if state.get("scaler"):  # none of another precision
            self._scaler.load_state_dict(state["scaler"])
        validation_due = state["validation_due"] and self._share.rank == 0
        return Standing(state["update"], state["best"], state["best_figures"], validation_due)

    @property
    def kept(self) -> str:
        """What is left of a training that ends by a fault."""
        return f"{self._folder / LAST} keeps the last good state" if (self._folder / LAST).exists() else "none is kept"

    def check(self, weights: Weights, update: int) -> None:
        """Raise `LapaError`, on all workers, if a checkpoint of `update` would hold what is no number."""
        if not weights.are_finite():
            raise LapaError(
                f"update {update}: the weights are no numbers (a gradient was none); {self.kept}. Try a lower "
                "--learning_rate."
            )

    def save(self, standing: Standing, num_updates: int) -> None:
        """Write what a training of `num_updates` goes on from."""
        if self._share.rank:
            return
        state = {
            "model": self._task.model.state_dict(),
            "optimizer": self._task.optimizer.state_dict(),
            "task": self._task.state(),
            "update": standing.update,
            "num_updates": num_updates,
            "best": standing.best,
            "best_figures": standing.best_figures,
            "validation_due": standing.validation_due,
            "scaler": self._scaler.state_dict(),
        }
        save_checkpoint(self._folder / LAST, state)

    def save_best(self, update: int, figures: Figures) -> None:
        """Write the model of an update whose validation gave `figures`."""
        state = {"model": self._task.model.state_dict(), "update": update, "figures": figures}
        save_checkpoint(self._folder / BEST, state)

    def keep(self, update: int) -> None:
        """Write the model of an update to a file of its own."""
        state = {"model": self._task.model.state_dict(), "update": update}
        save_checkpoint(self._folder / LAST.with_stem(KEPT.format(update)), state)
