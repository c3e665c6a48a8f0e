"""`compare-replay`: ALE → comparison. Uniform and prioritised replay, trained over seeds and set side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, PositiveInt
from rich.console import Console
from rich.table import Table

from lapa_ray.actors.cluster import num_gpus, ray_session
from lapa_ray.actors.placement import Placement, bundles_of
from lapa_ray.core import locks
from lapa_ray.core.artefact import METRICS as METRIC_LOG
from lapa_ray.core.artefact import Artefact, Draft, open_artefact
from lapa_ray.core.config import NOT_IDENTITY, RayConfig, StageConfig
from lapa_ray.core.errors import LapaError, StoppedError
from lapa_ray.core.files import replacing, write_json, write_text
from lapa_ray.core.metric_log import read_metrics, resolve_wandb_mode
from lapa_ray.core.pictures import Composite
from lapa_ray.core.progress import Progress
from lapa_ray.core.stop import StopRequest, stop_on_signal
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.envs.atari_env import AtariEnv
from lapa_ray.evaluation.comparison import FIGURES, PICTURE, REPLAYS, Comparison, Trial, TrialLog, compare
from lapa_ray.evaluation.comparison_page import comparison_panels, describe, render_comparison
from lapa_ray.evaluation.data_quality import DataQuality
from lapa_ray.evaluation.data_quality_datasets import Tallied, measured
from lapa_ray.evaluation.panels import write_panels
from lapa_ray.stages.dqn_training import DqnConfig, TrainDqnConfig
from lapa_ray.stages.train_dqn import GAMEPLAY, check, train
from lapa_ray.stages.trial_progress import TrialProgress
from lapa_ray.stages.trials import TrialResources, TrialRun, cores_a_trial, run_trials

HTML, TABLE, TRIALS, DATA_FIGURES = "comparison.html", "metrics.parquet", "trials", "data_quality.json"
COMPOSITE: Composite = "max4"
LARGEST_SEED = 2**31 - 1


class AgentTrialResources(TrialResources):
    """How the trials run; none of it changes what they learn but for the order of additions."""

    driver_cpus: float = Field(0.25, gt=0)
    """CPU cores that Ray reserves for a trial's driver and its replay server together."""


class CompareReplayConfig(StageConfig):
    """Compares prioritised with uniform replay, over seeds."""

    num_seeds: PositiveInt = 3
    """Seeds of each replay; twice as many agents are trained. Both replays train with seed, seed + 1, and so on."""
    final_share: float = Field(0.1, gt=0, le=1)
    """Share of the steps, at the end of training, whose episodes and updates the table tells of."""
    measured_episodes: PositiveInt | None = None
    """Episodes of each agent's gameplay to measure for variety, spread evenly over it; all if not given."""
    beside: Path | None = None
    """Frames artefact, such as of random play, whose variety is measured beside that of the agents' gameplay."""
    accept_failed: Annotated[bool, NOT_IDENTITY] = False
    """Finish though trials failed, and with --resume do not try them again; they are shown, and part of no figure."""
    train: DqnConfig = DqnConfig()
    """What every trial does."""
    resources: AgentTrialResources = AgentTrialResources()
    """How the trials run."""
    ray: RayConfig = RayConfig()
    """A local Ray; unused when RAY_ADDRESS names a cluster."""


CONFIG = CompareReplayConfig


def run(config: CompareReplayConfig) -> Artefact:
    """Train, measure and write the comparison artefact; each agent is an artefact of its own inside it."""
    planned = plan(config)
    beside = None if config.beside is None else FrameDataset.open(config.beside)
    draft = Draft.begin(config, "comparison", {} if beside is None else {"beside": beside.artefact})
    with ray_session(config.ray), stop_on_signal() as stop:
        failures = _train(config, planned, draft, stop)
        logs = [_log(trial, config.out / TRIALS / trial.name, failures) for trial in planned]
        _check_any(logs)
        data = _measure_data(config, logs, beside, stop)
    comparison = compare(
        logs,
        game=config.train.env.game,
        num_steps=config.train.num_steps,
        final_share=config.final_share,
        data=data,
        seed=config.seed,
    )
    _write(config, draft, comparison, logs, data)
    if failures and not config.accept_failed:
        draft.pause()
        _print(comparison, draft.path / HTML)
        raise _failed(failures, draft.path)
    artefact = draft.finish(comparison.manifest_figures())
    _print(comparison, draft.path / HTML)
    return artefact


def plan(config: CompareReplayConfig) -> list[Trial]:
    """The trials, in the order in which they start: seed by seed, so that what is there at any time is balanced.

    Raises `LapaError` for what none of them could do.
    """
    if config.seed + config.num_seeds - 1 > LARGEST_SEED:
        raise LapaError(f"--num_seeds {config.num_seeds}: seeds beyond {LARGEST_SEED}; give a lower --seed.")
    seeds = range(config.seed, config.seed + config.num_seeds)
    trials = [Trial(name=f"{replay}_seed_{seed}", replay=replay, seed=seed) for seed in seeds for replay in REPLAYS]
    try:
        check(trial_config(config, trials[0]))
    except LapaError as error:
        raise LapaError(as_nested(str(error))) from error
    return trials


def trial_config(config: CompareReplayConfig, trial: Trial) -> TrainDqnConfig:
    """What `train-dqn` would be given for `trial`."""
    fields = {name: getattr(config.train, name) for name in DqnConfig.model_fields}
    wandb = config.wandb.model_copy(update={"name": f"{config.wandb.name or config.out.name}-{trial.name}"})
    return TrainDqnConfig(
        **fields,
        out=config.out.resolve() / TRIALS / trial.name,
        seed=trial.seed,
        use_per=trial.replay == "prioritised",
        wandb=wandb,
        ray=config.ray,
    )


def as_nested(message: str) -> str:
    """A fault of a training as one of its options here: --replay.capacity is --train.replay.capacity."""
    names = "|".join(DqnConfig.model_fields)
    return re.sub(rf"--(?=({names})\b)", "--train.", message)


def _train(config: CompareReplayConfig, planned: Sequence[Trial], draft: Draft, stop: StopRequest) -> dict[str, str]:
    """Run what is left of the trials; name to reason of those that failed."""
    mode = resolve_wandb_mode(config.wandb)  # here, where it can be said
    settled = config.model_copy(update={"wandb": config.wandb.model_copy(update={"mode": mode})})
    configs = {trial.name: trial_config(settled, trial) for trial in planned}
    trials = agent_trials(configs, draft.path.resolve(), config.resources)
    known = known_failures(draft.path)
    if config.accept_failed and trials.left and set(trials.left) <= set(known):
        trials.clear()
        return {name: known[name] for name in trials.left}
    with TrialProgress("compare-replay", configs) as progress:
        failures = run_trials(trials, stop, progress.look)
    if stop and failures:
        draft.pause()
        raise StoppedError(
            f"stopped with {len(planned) - len(failures)} of {len(planned)} trainings finished, the others keep their "
            "checkpoints; give the same command with --resume to continue."
        )
    return {name: as_nested(reason) for name, reason in failures.items()}


def agent_trials(configs: Mapping[str, TrainDqnConfig], folder: Path, resources: AgentTrialResources) -> TrialRun:
    """Trainings of agents, each of which reserves all its actors."""
    first = next(iter(configs.values()))
    gpus = num_gpus(first.resources.device)
    bundles = bundles_of(
        driver={"CPU": resources.driver_cpus},
        learner={"CPU": first.resources.num_cpus, **({"GPU": gpus} if gpus else {})},
        worker={"CPU": first.workers.cpus_per_worker},
        num_workers=first.workers.num_workers,
    )
    trials = TrialRun(configs, folder, resources, bundles, train_agent)
    cores = cores_a_trial(resources, trials.need)  # the learner's threads, if they are not settled
    return replace(
        trials,
        configs={
            name: config.model_copy(update={"resources": config.resources.on_machine(cores)})
            for name, config in configs.items()
        },
    )


def train_agent(config: TrainDqnConfig, stop: StopRequest) -> None:
    """Train one agent, in a trial's process."""
    num_actions = AtariEnv(config.env).num_actions  # the plan was checked; the learner's device may be another node's
    try:
        train(config, Draft.begin(config, "agent"), num_actions, stop, Placement.of_trial())
    finally:
        locks.release(config.out / GAMEPLAY)


def known_failures(folder: Path) -> dict[str, str]:
    """Name to reason of the trials that failed when `folder` was written, if it was."""
    if not (folder / FIGURES).exists():
        return {}
    return {trial.name: trial.failure for trial in Comparison.load(folder).trials if trial.failure}


def _log(trial: Trial, folder: Path, failures: dict[str, str]) -> TrialLog:
    """The trial with what its agent artefact tells of it."""
    if trial.name in failures:
        return TrialLog(trial.model_copy(update={"failure": failures[trial.name]}), read_metrics(folder / METRIC_LOG))
    agent = open_artefact(folder, "agent")
    counts = {name: int(agent.manifest.figures[name] or 0) for name in ("num_steps", "num_updates", "num_episodes")}
    told = trial.model_copy(update={"identity": agent.identity, **counts})
    return TrialLog(told, read_metrics(folder / METRIC_LOG))


def _check_any(logs: Sequence[TrialLog]) -> None:
    """Raise `LapaError` if every trial failed: there is nothing to tell."""
    if all(log.trial.failure for log in logs):
        raise LapaError(f"every training failed, {logs[0].trial.name} because: {logs[0].trial.failure}")


def _failed(failures: dict[str, str], folder: Path) -> LapaError:
    name, reason = next(iter(failures.items()))
    return LapaError(
        f"{len(failures)} of the trainings failed, {name} because: {reason}\n"
        f"The others are compared in {folder / HTML}. Add --resume to try again, and --accept_failed to "
        "leave it at that."
    )


def _measure_data(
    config: CompareReplayConfig, logs: Sequence[TrialLog], beside: FrameDataset | None, stop: StopRequest
) -> DataQuality | None:
    """What of variety is in the gameplay of the agents, and beside it; None if none was kept."""
    if config.train.no_save:
        return None
    datasets = {
        log.trial.name: FrameDataset.open(config.out / TRIALS / log.trial.name / GAMEPLAY)
        for log in logs
        if not log.trial.failure
    }
    chosen = {name: _spread(dataset.episode_ids, config.measured_episodes) for name, dataset in datasets.items()}
    if beside is not None:
        datasets["beside"], chosen["beside"] = beside, beside.episode_ids
    total = sum(dataset.num_steps(episode) for name, dataset in datasets.items() for episode in chosen[name])
    with Progress("compare-replay: gameplay", total, "steps") as progress:

        def tick(num_steps: int) -> None:
            progress.advance(num_steps)
            if stop:
                raise StoppedError("stopped; the trainings are whole. Add --resume to measure their gameplay.")

        tallied = [Tallied.of(name, data, COMPOSITE, tick, chosen[name]) for name, data in datasets.items()]
    return measured(tallied, COMPOSITE, config.seed).quality


def _spread(episode_ids: list[int], count: int | None) -> list[int]:
    """`count` of the ids, evenly spread; all if there are no more."""
    if count is None or count >= len(episode_ids):
        return episode_ids
    return [episode_ids[number * len(episode_ids) // count] for number in range(count)]


def _write(
    config: CompareReplayConfig,
    draft: Draft,
    comparison: Comparison,
    logs: Sequence[TrialLog],
    data: DataQuality | None,
) -> None:
    panels = comparison_panels(logs, comparison, config.seed)
    write_metrics(draft.path / TABLE, logs)
    write_panels(draft.path / PICTURE, list(panels.values()), "agent steps")
    write_json(draft.path / FIGURES, comparison.model_dump(mode="json"))
    if data is not None:
        write_json(draft.path / DATA_FIGURES, data.model_dump(mode="json"))
    made = f"{datetime.now(UTC):%-d %B %Y, %H:%M} UTC"
    write_text(draft.path / HTML, render_comparison(comparison, panels, draft.run.config, made))


def write_metrics(path: Path, logs: Sequence[TrialLog]) -> None:
    """Write the rows of all logs as one Parquet table: trial, replay, seed, step and what was logged, as doubles."""
    names = sorted({name for log in logs for row in log.rows for name in row} - {"stage", "step"})
    rows = [(log.trial, row) for log in logs for row in log.rows]
    columns: dict[str, pa.Array] = {
        "trial": pa.array([trial.name for trial, _ in rows], pa.string()),
        "replay": pa.array([trial.replay for trial, _ in rows], pa.string()),
        "seed": pa.array([trial.seed for trial, _ in rows], pa.int64()),
        "step": pa.array([row["step"] for _, row in rows], pa.int64()),
        **{name: pa.array([row.get(name) for _, row in rows], pa.float64()) for name in names},
    }
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


def _print(comparison: Comparison, page: Path) -> None:
    table = Table("", *REPLAYS, "P(prioritised > uniform), %")
    for cells in describe(comparison):
        table.add_row(*cells)
    Console().print(table)
    print(
        "Interquartile means over the seeds; in brackets their 95 % interval, where there are at least three seeds.\n"
        f"All curves, what the agents' gameplay holds, and how everything is counted:\n{page.resolve()}",
        flush=True,
    )
