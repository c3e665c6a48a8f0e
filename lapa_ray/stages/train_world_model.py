"""`train-world-model`: codes → world_model. Learns how codes follow codes under actions.

Alignment: the codes of the pair (t−1 → t) and the action of step t go in; the codes of the pair (t → t+1) are the
target. A sample never crosses an episode.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from lapa_ray.core.artefact import Artefact, Draft
from lapa_ray.core.config import RayConfig, StageConfig
from lapa_ray.core.errors import LapaError, StoppedError
from lapa_ray.core.metric_log import MetricLog
from lapa_ray.core.seeds import seed_for
from lapa_ray.core.stop import stop_on_signal
from lapa_ray.dataset.codes import CodeDataset, CodeEpisode
from lapa_ray.dataset.splits import Split, named_parts
from lapa_ray.evaluation.codes import CodeStatistics
from lapa_ray.models.world_model import WorldModel, WorldModelConfig
from lapa_ray.stages.fit import run_fit
from lapa_ray.stages.fit_config import FitResources, TrainingConfig
from lapa_ray.stages.fit_share import Share
from lapa_ray.stages.fit_task import Figures, Turn

VALIDATION_BATCH = 256


class TrainWorldModelConfig(StageConfig):
    """Trains the world model on codes; the defaults are the source's model."""

    codes: Path
    """Codes artefact to learn from."""
    split: Split = "80/20"
    """Shares of the episodes for training and for validation, which chooses the best checkpoint; with 80/10/10 the
    last tenth takes part in neither."""
    model: WorldModelConfig = WorldModelConfig()
    """Network."""
    learning_rate: float = Field(1e-3, gt=0)
    """Step size of Adam, per update, at the start."""
    lr_step_epochs: PositiveInt = 30
    """Epochs after which the learning rate is multiplied by lr_gamma (StepLR)."""
    lr_gamma: float = Field(0.1, gt=0, le=1)
    """Factor of StepLR."""
    training: TrainingConfig = TrainingConfig()
    """Length and portions."""
    resources: FitResources = FitResources()
    """Workers and device."""
    ray: RayConfig = RayConfig()
    """A local Ray; unused when RAY_ADDRESS names a cluster."""


CONFIG = TrainWorldModelConfig


class Samples:
    """Inputs and targets of whole episodes: sample i is (codes before, action, codes after)."""

    def __init__(self, episodes: list[CodeEpisode]) -> None:
        self.before = np.concatenate([episode.codes[:-1] for episode in episodes]).astype(np.int64)
        self.actions = np.concatenate([episode.actions[1:] for episode in episodes]).astype(np.int64)
        self.after = np.concatenate([episode.codes[1:] for episode in episodes]).astype(np.int64)

    def __len__(self) -> int:
        return len(self.actions)

    def batch(self, items: NDArray[np.int64] | slice, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Codes int64 [B, tokens], actions int64 [B], next codes int64 [B, tokens]."""
        before, actions, after = (
            torch.from_numpy(part[items]).to(device) for part in (self.before, self.actions, self.after)
        )
        return before, actions, after


def check_samples(path: Path, num_actions: int, *splits: Samples) -> None:
    """Raise `LapaError` for a split without samples, or actions that the game does not have."""
    for samples in splits:
        if not len(samples):
            raise LapaError(f"{path}: every episode of a split is shorter than two steps; record longer ones.")
        if not (samples.actions.min() >= 0 and samples.actions.max() < num_actions):
            raise LapaError(f"{path}: holds steps without a known action, which a world model needs; record them.")


class WorldModelTask:
    """The world model with its data."""

    def __init__(self, config: TrainWorldModelConfig, share: Share, device: torch.device) -> None:
        torch.manual_seed(seed_for(config.seed, "model"))
        self._config, self._device = config, device
        dataset = CodeDataset.open(config.codes)
        train, held_out, _ = named_parts(dataset.episode_ids, config.split, str(config.codes))
        mine = train[share.rank :: share.world_size]
        if not mine:
            raise LapaError(f"{config.codes}: fewer training episodes than the {share.world_size} workers.")
        self._train = Samples([dataset.episode(i) for i in mine])
        self._held_out = Samples([dataset.episode(i) for i in held_out])
        check_samples(config.codes, dataset.num_actions, self._train, self._held_out)
        seen = CodeStatistics(dataset.codebook_size, self._train.after.shape[1])
        seen.update(self._train.after)
        self._mode = torch.from_numpy(seen.mode()).to(device)
        self.model: nn.Module = WorldModel(dataset.num_actions, dataset.codebook_size, config.model).to(device)
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate)

    @property
    def num_items(self) -> int:
        """Training samples of this worker."""
        return len(self._train)

    def learning_rate(self, epoch: int, progress: float) -> float:  # noqa: ARG002
        """As torch's StepLR has it."""
        config = self._config
        return config.learning_rate * float(config.lr_gamma ** (epoch // config.lr_step_epochs))

    def loss(self, network: nn.Module, turn: Turn) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of the next codes, nats a token."""
        before, actions, after = self._train.batch(turn.items, self._device)
        logits = network(before, actions)
        accuracy = (logits.detach().argmax(dim=-1) == after).float().mean()
        return F.cross_entropy(logits.flatten(0, 1), after.flatten()), {"accuracy": accuracy}

    def observe(self, update: int, log: MetricLog, folder: Path) -> None:
        """Nothing beside the loop's own figures."""

    def state(self) -> dict[str, Any]:
        """Nothing beside model and optimiser."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """See `state`."""

    @torch.inference_mode()
    def validate(self, tick: Callable[[float], None]) -> Figures:
        """Loss and accuracy beside copy-last codes and the mode, over the whole validation split."""
        loss, hits, copied, frequent, count = 0.0, 0, 0, 0, 0
        for start in range(0, len(self._held_out), VALIDATION_BATCH):
            before, actions, after = self._held_out.batch(slice(start, start + VALIDATION_BATCH), self._device)
            logits = self.model(before, actions)
            loss += float(F.cross_entropy(logits.flatten(0, 1), after.flatten(), reduction="sum"))
            hits += int((logits.argmax(dim=-1) == after).sum())
            copied += int((before == after).sum())
            frequent += int((self._mode == after).sum())
            count += after.numel()
            tick(min(1.0, (start + VALIDATION_BATCH) / len(self._held_out)))
        return {
            "loss": loss / count,
            "accuracy": hits / count,
            "copy_last_accuracy": copied / count,
            "mode_accuracy": frequent / count,
        }


def run(config: TrainWorldModelConfig) -> Artefact:
    """Train and write the world_model artefact."""
    dataset = CodeDataset.open(config.codes)
    train, held_out, _ = named_parts(dataset.episode_ids, config.split, str(config.codes))
    draft = Draft.begin(config, "world_model", {"codes": dataset.artefact})
    # Ray's workers run in a directory of their own, where a relative path would lead elsewhere.
    there = config.model_copy(update={"codes": config.codes.resolve()})
    with stop_on_signal() as stop:
        result = run_fit(
            "train-world-model", config, lambda share, device: WorldModelTask(there, share, device), draft.path, stop
        )
    if not result.finished:
        draft.pause()
        raise StoppedError(f"stopped at update {result.update} of {result.num_updates}; add --resume to continue.")
    return draft.finish(
        {
            "num_updates": result.num_updates,
            "num_train_episodes": len(train),
            "num_validation_episodes": len(held_out),
            "codebook_size": dataset.codebook_size,
            "num_actions": dataset.num_actions,
            **{f"val_{name}": value for name, value in result.figures.items()},
        }
    )
