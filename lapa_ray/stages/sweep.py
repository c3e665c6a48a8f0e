"""`sweep`: frames → sweep. Trains the VQ-VAE by every setting of a space, over seeds, as Ray Tune trials, and compares.

The trials are what `train-vqvae` would make, each an artefact of its own. ASHA (Li et al. 2020) ends those early that
promise little. The best setting that meets the constraints is written as a file for `train-vqvae --config`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from lapa_ray.actors.cluster import ray_session
from lapa_ray.core.artefact import Artefact, Draft
from lapa_ray.core.errors import LapaError
from lapa_ray.core.stop import stop_on_signal
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.evaluation.sweep_results import SweepResults, SweepTrial
from lapa_ray.stages.sweep_config import SweepConfig
from lapa_ray.stages.sweep_figures import check_figures, check_recalls, check_told
from lapa_ray.stages.sweep_outputs import HTML, manifest_figures, print_outcome, write_outputs
from lapa_ray.stages.sweep_plan import Planned, plan
from lapa_ray.stages.sweep_trials import train_all, trial_of
from lapa_ray.stages.train_vqvae import agent_of, check_perceptual, vgg_of
from lapa_ray.stages.vqvae_config import TrainVqvaeConfig
from lapa_ray.stages.vqvae_data import check_data

CONFIG = SweepConfig
Thing = TypeVar("Thing")


def run(config: SweepConfig) -> Artefact:
    """Train, compare and write the sweep artefact; each trial is a vqvae artefact inside it."""
    check_figures(config)
    planned = plan(config)
    dataset = check_data(next(iter(planned.values()))[1])[0]
    check_recalls(config, planned, dataset)
    check_told(config, planned, dataset)
    draft = begin(config, planned, dataset)
    with ray_session(config.ray), stop_on_signal() as stop:
        failures = train_all(config, planned, draft, stop)
    trials = [trial_of(name, setting, trial, failures) for name, (setting, trial) in planned.items()]
    results = SweepResults.of(trials, config.objective, config.mode, config.constraints)
    write_outputs(config, draft, results)
    if all(trial.state == "failed" for trial in trials):
        draft.pause()
        raise _none_left(trials, draft.path)
    if failures and not config.accept_failed:
        draft.pause()
        raise _failed(failures, draft.path)
    artefact = draft.finish({"game": dataset.info.game} | manifest_figures(results))
    print_outcome(results, draft.path)
    return artefact


def begin(config: SweepConfig, planned: Mapping[str, Planned], dataset: FrameDataset) -> Draft:
    """Take possession of the sweep's folder; refuse before that what losses could not look through."""
    losses = list({_seen_through(trial): trial for _, trial in planned.values()}.values())
    for trial in losses:
        check_perceptual(trial)
    return Draft.begin(config, "sweep", {"frames": dataset.artefact, **agents_of(losses)}, vggs_of(losses))


def _seen_through(trial: TrainVqvaeConfig) -> tuple[Path | None, Path | None]:
    """The agent and the file of VGG's weights that its loss looks through."""
    loss = trial.loss
    return loss.agent if loss.agent_weight else None, loss.vgg_weights if loss.vgg_weight else None


def agents_of(trials: Sequence[TrainVqvaeConfig]) -> dict[str, Artefact]:
    """The agents that their losses look through, each once."""
    found = [agent for trial in trials for agent in agent_of(trial).values()]
    return _numbered("agent", {agent.identity: agent for agent in found}.values())


def vggs_of(trials: Sequence[TrainVqvaeConfig]) -> dict[str, Path]:
    """The files of VGG's weights that their losses look through, each once."""
    return _numbered("vgg_weights", dict.fromkeys(path for trial in trials for path in vgg_of(trial).values()))


def _numbered(name: str, things: Iterable[Thing]) -> dict[str, Thing]:
    return {name if not number else f"{name}_{number + 1}": thing for number, thing in enumerate(things)}


def _none_left(trials: Sequence[SweepTrial], folder: Path) -> LapaError:
    return LapaError(
        f"every training failed, {trials[0].name} because: {trials[0].failure}\n"
        f"All are shown in {folder / HTML}. Change what they have in common in another --out, or add --resume to try "
        "again."
    )


def _failed(failures: Mapping[str, str], folder: Path) -> LapaError:
    name, reason = next(iter(failures.items()))
    return LapaError(
        f"{len(failures)} of the trainings failed, {name} because: {reason}\n"
        f"The others are shown in {folder / HTML}. Add --resume to try again, and --accept_failed to leave it at that."
    )
