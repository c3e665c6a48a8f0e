"""The trials of a sweep: planned trainings in, vqvae artefacts by Ray Tune and ASHA out, and what their folders tell.

Knows not which of them is best.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ray import tune
from ray.tune.schedulers import ASHAScheduler

from lapa_ray.actors.cluster import num_gpus
from lapa_ray.core.artefact import MANIFEST, METRICS, Draft, open_artefact
from lapa_ray.core.errors import StoppedError
from lapa_ray.core.metric_log import read_metrics, resolve_wandb_mode
from lapa_ray.core.progress import Progress
from lapa_ray.core.stop import StopRequest
from lapa_ray.evaluation.sweep_results import SweepTrial
from lapa_ray.stages.fit_task import Figures
from lapa_ray.stages.sweep_config import SweepConfig
from lapa_ray.stages.sweep_figures import speed_of, validation_figures
from lapa_ray.stages.sweep_outputs import known_failures
from lapa_ray.stages.sweep_plan import Planned
from lapa_ray.stages.train_vqvae import train
from lapa_ray.stages.trials import ENDED_EARLY, TrialRun, run_trials
from lapa_ray.stages.vqvae_config import TrainVqvaeConfig


def train_all(
    config: SweepConfig,
    planned: Mapping[str, Planned],
    draft: Draft,
    stop: StopRequest,
) -> dict[str, str]:
    """Run what is left; name to reason of those that failed."""
    mode = resolve_wandb_mode(config.wandb)  # here, where it can be said
    configs = {
        name: trial.model_copy(update={"wandb": trial.wandb.model_copy(update={"mode": mode})})
        for name, (_, trial) in planned.items()
    }
    gpus = config.resources.gpus_per_trial
    reserved = num_gpus(config.train.resources.device) if gpus is None else gpus
    bundle = {"CPU": config.resources.cpus_per_trial} | ({"GPU": reserved} if reserved else {})
    work = Sweeping(config.objective)
    trials = TrialRun(configs, draft.path.resolve(), config.resources, [bundle], work, _scheduler(config))
    if config.accept_failed and (known := known_failures(draft.path)) and set(trials.left) <= set(known):
        trials.clear()
        return {name: known[name] for name in trials.left}
    with Progress("sweep", len(planned), "trainings", initial=len(planned) - len(trials.left)) as progress:
        failures = run_trials(trials, stop, lambda: progress.advance_to(len(planned) - len(trials.left)))
    if stop and failures:
        draft.pause()
        raise StoppedError(
            f"stopped with {len(planned) - len(failures)} of {len(planned)} trainings finished, the others keep their "
            "checkpoints; give the same command with --resume to continue."
        )
    return failures


class Sweeping:
    """A trial's work: the training that `train-vqvae` would do, whose validations Tune hears of."""

    def __init__(self, objective: str) -> None:
        self._objective = objective

    def __call__(self, config: TrainVqvaeConfig, stop: StopRequest) -> None:
        """Train until done, stopped, or ended by the scheduler."""
        train(config, stop, lambda _update, figures: self._report(config, figures))

    def _report(self, config: TrainVqvaeConfig, figures: Figures) -> None:
        rows = read_metrics(config.out / METRICS)  # a retry has dropped those of after its checkpoint
        judged = {"objective": figures[self._objective]} if self._objective in figures else {}
        tune.report({"validations": sum("val_loss" in row for row in rows), **judged})


def _scheduler(config: SweepConfig) -> ASHAScheduler | None:
    if not config.asha.enabled:
        return None
    most = -(-config.train.training.num_epochs // config.train.training.validation_period_epochs) + 1
    return ASHAScheduler(
        time_attr="validations",
        metric="objective",
        mode=config.mode,
        max_t=max(most, config.asha.grace_validations),
        grace_period=config.asha.grace_validations,
        reduction_factor=config.asha.reduction_factor,
        stop_last_trials=False,
    )


def trial_of(
    name: str, setting: Mapping[str, Any], config: TrainVqvaeConfig, failures: Mapping[str, str]
) -> SweepTrial:
    """The training with what its folder tells of it."""
    rows = read_metrics(config.out / METRICS)
    validations = [row for row in rows if "val_loss" in row]
    last = validation_figures(validations[-1]) if validations else {}
    state: Literal["whole", "ended early", "failed"] = "failed"
    if (config.out / MANIFEST).exists():
        last, state = validation_figures(open_artefact(config.out, "vqvae").manifest.figures), "whole"
    elif (config.out / ENDED_EARLY).exists():
        state = "ended early"
    return SweepTrial(name, setting, config.seed, state, last | speed_of(rows), failures.get(name, ""))
