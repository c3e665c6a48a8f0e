"""A task small enough to train in milliseconds: fit random vectors, with dropout so that the random stream counts."""

from pathlib import Path

import torch
from torch import nn

from lapa_ray.core.config import RayConfig, StageConfig
from lapa_ray.core.metric_log import MetricLog
from lapa_ray.core.seeds import seed_for
from lapa_ray.stages.fit_config import FitResources, TrainingConfig
from lapa_ray.stages.fit_share import Share
from lapa_ray.stages.fit_task import Turn


class ToyConfig(StageConfig):
    out: Path = Path("unused")
    """Nowhere."""
    num_items: int = 20
    """Items, over all workers."""
    bad_update: int = -1
    """The loss call that gives not-a-number."""
    bad_gradient: int = -1
    """The loss call whose value is a number, and whose gradient is none."""
    training: TrainingConfig = TrainingConfig(num_epochs=4, batch_size=4, log_period_updates=1)
    """Length."""
    resources: FitResources = FitResources(num_workers=0, device="cpu", checkpoint_period_updates=3)
    """Workers."""
    ray: RayConfig = RayConfig(num_cpus=2, object_store_mb=80)
    """A local Ray."""


class ToyTask:
    def __init__(self, config: ToyConfig, share: Share, device: torch.device) -> None:
        torch.manual_seed(seed_for(config.seed, "model"))
        items = torch.randn(config.num_items, 3, generator=torch.Generator().manual_seed(1))
        self._inputs = items[share.rank :: share.world_size]
        self._bad_update, self._bad_gradient, self._calls = config.bad_update, config.bad_gradient, 0
        # No bias before the normalisation: its gradient is nothing but rounding, which Adam would blow up.
        layers = nn.Linear(3, 8, bias=False), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1)
        self.model: nn.Module = nn.Sequential(*layers)
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)

    @property
    def num_items(self) -> int:
        return len(self._inputs)

    def learning_rate(self, epoch: int, progress: float) -> float:
        return 0.01 * (1 - progress) * 0.5**epoch

    def loss(self, network, turn: Turn):
        inputs = self._inputs[torch.from_numpy(turn.items)]
        loss = (network(inputs)[:, 0] - inputs.sum(dim=1)).square().mean()
        self._calls += 1
        if self._calls - 1 == self._bad_update:
            loss = loss * float("nan")
        if self._calls - 1 == self._bad_gradient:
            loss = loss + (loss * 0).sqrt()  # the root of 0 is steep without end
        return loss, {"items_sum": torch.tensor(float(turn.items.sum()))}

    def observe(self, update: int, log: MetricLog, folder: Path) -> None:
        pass

    def state(self) -> dict:
        return {}

    def load_state(self, state: dict) -> None:
        pass

    @torch.inference_mode()
    def validate(self, tick) -> dict[str, float]:
        tick(0.5)
        error = (self.model(self._inputs)[:, 0] - self._inputs.sum(dim=1)).square().mean()
        return {"loss": float(error)}
