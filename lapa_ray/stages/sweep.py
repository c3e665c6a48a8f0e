"""`sweep`: frames → sweep. Trains the VQ-VAE by every setting of a space, over seeds, as Ray Tune trials, and compares.

The trials are what `train-vqvae` would make, each an artefact of its own. ASHA (Li et al. 2020) ends those early that
promise little. The best setting that meets the constraints is written as a file for `train-vqvae --config`.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import yaml  # type: ignore[import-untyped]
from pydantic import Field, PositiveInt, ValidationError
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from rich.console import Console
from rich.table import Table

from lapa_ray.actors.cluster import num_gpus, ray_session
from lapa_ray.core.artefact import MANIFEST, METRICS, Artefact, Draft, open_artefact
from lapa_ray.core.config import NOT_IDENTITY, Config, RayConfig, StageConfig
from lapa_ray.core.errors import LapaError, StoppedError
from lapa_ray.core.files import replacing, write_text
from lapa_ray.core.metric_log import read_metrics, resolve_wandb_mode
from lapa_ray.core.progress import Progress
from lapa_ray.core.stop import StopRequest, stop_on_signal
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.evaluation.sprite_recall import RECALL
from lapa_ray.evaluation.sweep_page import render_sweep
from lapa_ray.evaluation.sweep_results import Constraint, Mode, Setting, SweepResults, SweepTrial, none_is_best
from lapa_ray.stages.fit_task import Figures
from lapa_ray.stages.held_out_sprites import recalls_of
from lapa_ray.stages.train_vqvae import (
    VALIDATION_FIGURES,
    TrainVqvaeConfig,
    VqvaeTraining,
    absolute,
    agent_of,
    check_data,
    train,
)
from lapa_ray.stages.trials import ENDED_EARLY, TrialResources, TrialRun, run_trials

HTML, TABLE, BEST_CONFIG, TRIALS = "sweep.html", "trials.parquet", "best.yaml", "trials"
LARGEST_SEED = 2**31 - 1
VARIANT = "variant"
"""What a setting calls the name of its variant."""
Planned = tuple[Mapping[str, Any], TrainVqvaeConfig]
"""A trial's setting, and its config."""
SPEED = "samples_per_s"
"""What an objective or a constraint may be of beside validation figures: the median of a training's rows of it."""


class SweepResources(TrialResources):
    """How the trials run; none of it changes what they learn but for the order of additions."""

    cpus_per_trial: float = Field(1.0, gt=0)
    """CPU cores that Ray reserves for a trial."""
    gpus_per_trial: float | None = Field(None, ge=0)
    """GPUs, or parts of one, that Ray reserves for a trial; if not given, one where the cluster has any."""


class AshaConfig(Config):
    """Early ends, by asynchronous successive halving over validations."""

    enabled: bool = True
    """End trials early."""
    grace_validations: PositiveInt = 2
    """Number of validations that every trial is allowed."""
    reduction_factor: float = Field(3.0, gt=1)
    """Of so many trials one goes on, at each rung; rungs lie so many times as many validations apart."""


class SweepConfig(StageConfig):
    """Sweeps the VQ-VAE's settings over seeds."""

    frames: Path
    """Frames artefact to learn from."""
    space: dict[str, list[Any]] = Field(default_factory=dict)
    """Options of train, as dotted paths, to lists of values; every combination is a setting."""
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Names to options of train, as dotted paths, with a value each: what differs in several options at once. Where
    there is a space too, every variant is combined with all of it."""
    num_seeds: PositiveInt = 3
    """Seeds of each setting: seed, seed + 1, and so on."""
    objective: str = "perplexity"
    """Validation figure that the best setting has most (or least) of; or samples_per_s, with asha.enabled false."""
    mode: Mode = "max"
    """Whether more of it is better, or less."""
    constraints: Annotated[tuple[str, ...], NOT_IDENTITY] = ()
    """What the best setting's figures have to be, such as 'changed_psnr_db >= 17'."""
    accept_failed: Annotated[bool, NOT_IDENTITY] = False
    """Finish though trials failed, and with --resume do not try them again; they are shown, and never chosen."""
    asha: AshaConfig = AshaConfig()
    """Early ends."""
    train: VqvaeTraining = VqvaeTraining()
    """What every trial does."""
    resources: SweepResources = SweepResources()
    """How the trials run."""
    ray: RayConfig = RayConfig()
    """A local Ray; unused when RAY_ADDRESS names a cluster."""


CONFIG = SweepConfig


def run(config: SweepConfig) -> Artefact:
    """Train, compare and write the sweep artefact; each trial is a vqvae artefact inside it."""
    _check_figures(config)
    planned = plan(config)
    dataset = check_data(next(iter(planned.values()))[1])[0]
    _check_recalls(config, planned, dataset)
    for _, trial in planned.values():
        agent_of(trial)
    draft = Draft.begin(config, "sweep", {"frames": dataset.artefact})
    with ray_session(config.ray), stop_on_signal() as stop:
        failures = _train(config, planned, draft, stop)
    trials = [_trial(name, setting, trial, failures) for name, (setting, trial) in planned.items()]
    if all(trial.state == "failed" for trial in trials):
        draft.pause()
        raise _none_left(trials)
    results = SweepResults.of(trials, config.objective, config.mode, config.constraints)
    _write(config, draft, results)
    if failures and not config.accept_failed:
        draft.pause()
        raise _failed(failures, draft.path)
    artefact = draft.finish({"game": dataset.info.game} | _manifest_figures(results))
    _print(results, draft.path)
    return artefact


def _check_figures(config: SweepConfig) -> None:
    """Before days of training: a figure by a wrong name would be missed at their end."""
    for option, figure in _asked(config):
        if figure == SPEED:
            _check_speed(config, option)
        elif figure not in VALIDATION_FIGURES and not figure.endswith(RECALL):
            there = ", ".join(sorted((*VALIDATION_FIGURES, SPEED)))
            raise LapaError(
                f"--{option} {figure}: no validation figure; there are {there}, and SPRITE{RECALL} where RAM tells it."
            )


def _asked(config: SweepConfig) -> list[tuple[str, str]]:
    """Option to figure, of the objective and of each constraint."""
    constraints = [Constraint.parse(text) for text in config.constraints]
    return [("objective", config.objective), *(("constraints", constraint.figure) for constraint in constraints)]


def _check_recalls(config: SweepConfig, planned: Mapping[str, Planned], dataset: FrameDataset) -> None:
    """Raise `LapaError` for the recall of a sprite that no validation tells."""
    is_grey = any(trial.model.colour == "grey" for _, trial in planned.values())
    there = [] if is_grey else recalls_of(dataset)
    for option, figure in _asked(config):
        if figure.endswith(RECALL) and figure not in there:
            told = f"there are {', '.join(there)}" if there else "sprites are told by RAM, a palette and colours alone"
            raise LapaError(f"--{option} {figure}: not of {dataset.name}; {told}.")


def _check_speed(config: SweepConfig, option: str) -> None:
    """Raise `LapaError` unless every training logs its samples/s, more than once, and none is judged before its end."""
    if option == "objective" and config.asha.enabled:
        raise LapaError(
            f"--objective {SPEED}: ASHA judges by validations, which tell no speed; add --asha.enabled false."
        )
    period, most = config.train.resources.throughput_period_updates, config.train.training.max_updates
    if not period or most is None or 2 * period > most:
        raise LapaError(
            f"--{option} {SPEED}: needs two rows of it at least, since the first is warm-up; give "
            "--train.resources.throughput_period_updates at most half of --train.training.max_updates."
        )


def plan(config: SweepConfig) -> dict[str, Planned]:
    """Name of each trial to its setting and its config, seed by seed, so that what is there at any time is balanced.

    Raises `LapaError` for a setting that there cannot be.
    """
    if config.seed + config.num_seeds - 1 > LARGEST_SEED:
        raise LapaError(f"--num_seeds {config.num_seeds}: seeds beyond {LARGEST_SEED}; give a lower --seed.")
    if empty := [path for path, values in config.space.items() if not values]:
        raise LapaError(f"--space {empty[0]}: names no values; give a list.")
    if VARIANT in config.space:
        raise LapaError(f"--space {VARIANT}: there is no such option of train-vqvae; name variants by --variants.")
    space = {**({VARIANT: list(config.variants)} if config.variants else {}), **config.space}
    settings = [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
    planned: dict[str, Planned] = {}
    for seed in range(config.seed, config.seed + config.num_seeds):
        for number, setting in enumerate(settings):
            name = f"{number:02d}_{slug(setting)}_seed_{seed}"
            planned[name] = setting, _trial_config(config, name, setting, seed)
    return planned


def slug(setting: Mapping[str, Any]) -> str:
    """A setting as part of a folder's name."""
    text = "_".join(f"{path.rpartition('.')[2]}_{value}" for path, value in setting.items()) or "default"
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text)[:80].strip("-")


def _trial_config(config: SweepConfig, name: str, setting: Mapping[str, Any], seed: int) -> TrainVqvaeConfig:
    fields: dict[str, Any] = config.train.model_dump()
    _apply(config, setting, fields)
    fields["resources"]["num_workers"] = 0  # a trial is one process: a trainer inside each would wait for the others
    wandb = config.wandb.model_copy(update={"name": f"{config.wandb.name or config.out.name}-{name}"})
    out = config.out.resolve() / TRIALS / name
    try:
        made = TrainVqvaeConfig(**fields, out=out, frames=config.frames, seed=seed, wandb=wandb, ray=config.ray)
        return absolute(made)  # a trial runs in a directory of Tune's
    except ValidationError as error:
        first: Any = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        told = first["msg"].removeprefix("Value error, ")
        option = "--space" if config.space else "--variants"
        raise LapaError(f"{option} {dict(setting)}: {where + ': ' if where else ''}{told}") from error


def _apply(config: SweepConfig, setting: Mapping[str, Any], fields: dict[str, Any]) -> None:
    """Give options of train what a setting says: first its variant's, then its own."""
    if (name := setting.get(VARIANT)) is not None:
        for path, value in config.variants[name].items():
            _set(fields, path, value, f"--variants {name}: {path}")
    for path, value in setting.items():
        if path != VARIANT:
            _set(fields, path, value, f"--space {path}")


def _set(fields: dict[str, Any], path: str, value: Any, where: str) -> None:
    *parents, last = path.split(".")
    place: Any = fields
    for name in parents:
        place = place.get(name) if isinstance(place, dict) else None
    if not isinstance(place, dict) or last not in place:
        raise LapaError(
            f"{where}: there is no such option of train-vqvae, or another path or the variant gives all of its group; "
            "name one by its dotted path."
        )
    place[last] = copy.deepcopy(value)


def _train(
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
    if config.accept_failed and (known := _known_failures(draft.path)) and set(trials.left) <= set(known):
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
        self._objective, self._count = objective, 0

    def __call__(self, config: TrainVqvaeConfig, stop: StopRequest) -> None:
        """Train until done, stopped, or ended by the scheduler."""
        rows = read_metrics(config.out / METRICS)  # of before a retry
        self._count = sum("val_loss" in row for row in rows)
        train(config, stop, self._report)

    def _report(self, _update: int, figures: Figures) -> None:
        self._count += 1
        judged = {"objective": figures[self._objective]} if self._objective in figures else {}
        tune.report({"validations": self._count, **judged})


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


def _trial(name: str, setting: Mapping[str, Any], config: TrainVqvaeConfig, failures: Mapping[str, str]) -> SweepTrial:
    """The training with what its folder tells of it."""
    rows = read_metrics(config.out / METRICS)
    validations = [row for row in rows if "val_loss" in row]
    last = _validation_figures(validations[-1]) if validations else {}
    state: Literal["whole", "ended early", "failed"] = "failed"
    if (config.out / MANIFEST).exists():
        last, state = _validation_figures(open_artefact(config.out, "vqvae").manifest.figures), "whole"
    elif (config.out / ENDED_EARLY).exists():
        state = "ended early"
    return SweepTrial(name, setting, config.seed, state, last | speed_of(rows), failures.get(name, ""))


def speed_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The median samples/s of a training's metric log; its first row, in which all begins, is left out."""
    rates = [row[SPEED] for row in rows if row.get(SPEED) is not None][1:]
    return {SPEED: median(rates)} if rates else {}


def _validation_figures(told: Mapping[str, Any]) -> dict[str, float]:
    """Those of a row or a manifest; what was no number is null there, and is left out."""
    return {
        key.removeprefix("val_"): float(value)
        for key, value in told.items()
        if key.startswith("val_") and value is not None
    }


def _none_left(trials: Sequence[SweepTrial]) -> LapaError:
    return LapaError(
        f"every training failed, {trials[0].name} because: {trials[0].failure}\n"
        "Try one alone with train-vqvae, then add --resume."
    )


def _failed(failures: Mapping[str, str], folder: Path) -> LapaError:
    name, reason = next(iter(failures.items()))
    return LapaError(
        f"{len(failures)} of the trainings failed, {name} because: {reason}\n"
        f"The others are shown in {folder / HTML}. Add --resume to try again, and --accept_failed to leave it at that."
    )


def _known_failures(folder: Path) -> dict[str, str]:
    """Name to reason of the trials that failed when `folder` was written, if it was."""
    if not (folder / TABLE).exists():
        return {}
    rows = pq.read_table(folder / TABLE, columns=["trial", "failure"]).to_pylist()
    return {row["trial"]: row["failure"] for row in rows if row["failure"]}


def _write(config: SweepConfig, draft: Draft, results: SweepResults) -> None:
    _write_table(draft.path / TABLE, results.trials)
    best_path = draft.path / BEST_CONFIG
    best_path.unlink(missing_ok=True)
    if results.best is not None:
        write_text(best_path, best_yaml(config, results.best))
    results.save(draft.path)
    made = f"{datetime.now(UTC):%-d %B %Y, %H:%M} UTC"
    write_text(draft.path / HTML, render_sweep(results, draft.run.config, made))


def best_yaml(config: SweepConfig, best: Setting) -> str:
    """What `train-vqvae --config` takes: what of the best setting differs from the defaults."""
    fields: dict[str, Any] = config.train.model_dump(mode="json")
    _apply(config, best.values, fields)
    differs = _difference(fields, VqvaeTraining().model_dump(mode="json"))
    return "# The best setting of a sweep, as `lapa-ray train-vqvae --config` takes it.\n" + yaml.safe_dump(
        differs, sort_keys=False
    )


def _difference(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in fields.items():
        default = defaults.get(name)
        if isinstance(value, dict) and isinstance(default, dict):
            if inner := _difference(value, default):
                found[name] = inner
        elif value != default:
            found[name] = value
    return found


def _write_table(path: Path, trials: Sequence[SweepTrial]) -> None:
    """One row a training: name, each swept option (as JSON-like text), seed, state, failure, each figure."""
    names = sorted({name for trial in trials for name in trial.figures})
    columns: dict[str, pa.Array] = {
        "trial": pa.array([trial.name for trial in trials], pa.string()),
        **{
            option: pa.array([str(trial.setting[option]) for trial in trials], pa.string())
            for option in trials[0].setting
        },
        "seed": pa.array([trial.seed for trial in trials], pa.int64()),
        "state": pa.array([trial.state for trial in trials], pa.string()),
        "failure": pa.array([trial.failure for trial in trials], pa.string()),
        **{name: pa.array([trial.figures.get(name) for trial in trials], pa.float64()) for name in names},
    }
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


def _manifest_figures(results: SweepResults) -> dict[str, float | int | str | None]:
    states, best = [trial.state for trial in results.trials], results.best
    return {
        "num_settings": len(results.settings),
        "num_trials": len(results.trials),
        "num_ended_early": states.count("ended early"),
        "num_failed": states.count("failed"),
        "best": None if best is None else slug(best.values),
        f"best_{results.objective}": None if best is None else best.means[results.objective],
    }


def _print(results: SweepResults, folder: Path) -> None:
    shown = [results.objective, *(Constraint.parse(text).figure for text in results.constraints)]
    table = Table("setting", *shown, "trainings")
    for setting in results.settings:
        cells = [f"{setting.means[name]:.4g}" if name in setting.means else "–" for name in shown]
        table.add_row(slug(setting.values), *cells, f"{setting.num_whole} of {setting.num_trials} whole")
    Console().print(table)
    if results.best is None:
        print(none_is_best(len(results.settings), results.objective, results.constraints))
    else:
        print(
            f"Best: {slug(results.best.values)}; train with it:\nlapa-ray train-vqvae --config {folder / BEST_CONFIG}"
        )
    print(f"All of it: {(folder / HTML).resolve()}", flush=True)
