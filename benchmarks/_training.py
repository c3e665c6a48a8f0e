"""A run of `train-dqn`, and how fast it was once it trained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from lapa_ray.core.artefact import METRICS
from lapa_ray.core.config import WandbConfig
from lapa_ray.replay.buffer import ReplayConfig
from lapa_ray.stages import train_dqn
from lapa_ray.stages.dqn_training import TrainDqnConfig


def train(out: Path, num_steps: int, **options: Any) -> float:
    """Agent steps/s of `train-dqn` as it is by default but for `options`, prioritised, from its first update on.

    Of `num_steps` the first fifth fills the buffer. Joins the Ray session that there is.
    """
    config = TrainDqnConfig(
        out=out,
        num_steps=num_steps,
        use_per=True,
        replay=ReplayConfig(capacity=10 * num_steps, min_size=num_steps // 5),
        log_period_s=1.0,
        wandb=WandbConfig(mode="disabled"),
        **options,
    )
    return training_rate(train_dqn.run(config).path / METRICS)


def training_rate(metrics: Path, steps_per_update: float = 4.0) -> float:
    """Agent steps/s of a metric log once it trained: `steps_per_update` × updates/s, all rows but the first with any.

    The limiter holds steps and updates together, but for those that workers may be ahead: over a short run, counting
    steps would tell how far ahead they were when the first update came.
    """
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    first = next(index for index, row in enumerate(rows) if row["num_updates"])
    timed = list(_portions(rows[first:]))
    return steps_per_update * sum(updates for updates, _ in timed) / sum(seconds for _, seconds in timed)


def _portions(rows: list[dict[str, float]]) -> Iterator[tuple[float, float]]:
    """Updates and seconds between one row and the next."""
    for before, row in pairwise(rows):
        count, rate = ("step", "steps_per_s") if row["steps_per_s"] else ("num_updates", "updates_per_s")
        yield row["num_updates"] - before["num_updates"], (row[count] - before[count]) / row[rate]
