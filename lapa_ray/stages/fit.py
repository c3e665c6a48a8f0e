"""A whole training, in this process (no workers) or in Ray Train workers.

A stage's config and what makes its task in; checkpoints and metrics in a folder, and how far it came, out. Knows
neither the loop's inside nor what is trained.
"""

from __future__ import annotations

from pathlib import Path

from lapa_ray.core.progress import Progress
from lapa_ray.core.stop import StopRequest
from lapa_ray.models.device import resolve_device
from lapa_ray.stages.fit_config import FitSpec
from lapa_ray.stages.fit_loop import Fit, FitResult
from lapa_ray.stages.fit_share import Share
from lapa_ray.stages.fit_task import OnValidated, TaskFactory


def run_fit(
    name: str,
    config: FitSpec,
    factory: TaskFactory,
    folder: Path,
    stop: StopRequest,
    on_validated: OnValidated | None = None,
) -> FitResult:
    """Train in this process or in Ray Train workers, as `config.resources` says; go on from `folder` if it can.

    `on_validated` is for trainings in this process. Raises `LapaError` for a loss or weights that are no numbers, a
    batch larger than the data, a device that is not there.
    """
    if config.resources.num_workers:
        from lapa_ray.stages.fit_workers import run_in_workers

        return run_in_workers(name, config, factory, folder, stop)
    task = factory(Share(), resolve_device(config.resources.device))
    fit = Fit(name, config, task, folder, Share(), on_validated)
    with Progress(name, fit.num_updates, "updates", initial=fit.update) as progress:
        return fit(lambda: bool(stop), progress.advance_to)
