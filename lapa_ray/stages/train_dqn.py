"""`train-dqn`: ALE → agent. Workers play, one replay server remembers, one learner learns; the gameplay is kept too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import ray
from pydantic import Field, PositiveInt

from lapa_ray.actors.cluster import cluster_address, ray_session, require_resources
from lapa_ray.actors.learner import LearnerActor, LearnerConfig, LearnerResources, ServerSource
from lapa_ray.actors.replay_server import ReplayServerActor
from lapa_ray.actors.rollout_worker import WorkerConfig, start_worker
from lapa_ray.actors.supervisor import Counters, Plan, Supervisor, checkpoint_name, checkpoint_path
from lapa_ray.core.artefact import Artefact, Draft
from lapa_ray.core.config import NOT_IDENTITY, Config, RayConfig, StageConfig
from lapa_ray.core.errors import LapaError, StoppedError
from lapa_ray.core.files import write_json
from lapa_ray.core.metric_log import MetricLog, read_metrics
from lapa_ray.core.progress import Progress
from lapa_ray.core.stop import StopRequest, stop_on_signal
from lapa_ray.dataset.summary import frame_figures
from lapa_ray.envs.atari_env import AtariEnv, AtariEnvConfig
from lapa_ray.models.device import resolve_device
from lapa_ray.models.q_network import QNetworkConfig, weights_path
from lapa_ray.replay.buffer import ReplayConfig
from lapa_ray.replay.snapshot import delete_states

SERVER_CPUS = 0.1
GAMEPLAY = "gameplay"
LATEST = "latest.json"


class ExplorationConfig(Config):
    """ε of all workers: max(minimum, base^(t / decay_steps)), t the agent steps of all workers."""

    base: float = Field(0.1, gt=0, le=1)
    """Base of the power."""
    decay_steps: PositiveInt = 1_000_000
    """Agent steps after which ε has come down to base."""
    minimum: float = Field(0.1, ge=0, le=1)
    """ε never falls below this."""

    def epsilon(self, num_steps: int) -> float:
        """ε after so many agent steps."""
        return float(max(self.minimum, self.base ** (num_steps / self.decay_steps)))


class TrainDqnConfig(StageConfig):
    """Trains a double DQN agent; the defaults are the source's."""

    num_steps: PositiveInt = 10_000_000
    """Agent steps of all workers."""
    use_per: bool = False
    """Prioritised experience replay instead of uniform."""
    no_save: bool = False
    """Do not keep the gameplay that training sees as a frame dataset."""
    env: AtariEnvConfig = AtariEnvConfig()
    """Game."""
    network: QNetworkConfig = QNetworkConfig()
    """Q-network."""
    replay: ReplayConfig = ReplayConfig()
    """Replay buffer."""
    learner: LearnerConfig = LearnerConfig()
    """Learning rule."""
    exploration: ExplorationConfig = ExplorationConfig()
    """ε-greedy play."""
    workers: WorkerConfig = WorkerConfig()
    """Who plays."""
    resources: LearnerResources = LearnerResources()
    """Where the learner runs."""
    ray: RayConfig = RayConfig()
    """A local Ray; unused when RAY_ADDRESS names a cluster."""
    log_period_s: Annotated[float, NOT_IDENTITY] = Field(5.0, gt=0)
    """Time between rows in the metric log, s."""
    checkpoint_period_updates: Annotated[int, NOT_IDENTITY] = Field(50_000, ge=1)
    """Updates between checkpoints."""
    save_replay: Annotated[bool, NOT_IDENTITY] = True
    """Keep the replay buffer in each checkpoint, so that a resumed run need not fill it anew (7 kB a transition)."""

    @property
    def num_updates(self) -> int:
        """Updates that `num_steps` steps earn."""
        samples = self.replay.samples_per_insert * (self.num_steps - self.replay.min_size)
        return max(0, int(samples) // self.learner.batch_size)


CONFIG = TrainDqnConfig


class AtariFactory:
    """Makes the environment in the worker that steps it."""

    def __init__(self, config: AtariEnvConfig) -> None:
        self._config = config

    def __call__(self) -> AtariEnv:
        """A fresh environment."""
        return AtariEnv(self._config)


def run(config: TrainDqnConfig) -> Artefact:
    """Train and write the agent artefact."""
    num_actions = _check(config)
    draft = Draft.begin(config, "agent")
    gameplay = None if config.no_save else _begin_gameplay(config, draft)
    with (
        ray_session(config.ray),
        stop_on_signal() as stop,
        MetricLog(draft.metrics_path, "train-dqn", config.wandb, draft.run.config) as log,
    ):
        training = Training(config, draft, num_actions, gameplay.path if gameplay is not None else None)
        try:
            training.run(stop, log)
        finally:
            training.close()
    if not training.is_done:
        draft.pause()
        raise StoppedError(
            f"stopped at step {training.num_steps:,} of {config.num_steps:,}, checkpoint saved; "
            "give the same command with --resume to continue."
        )
    if gameplay is not None:
        gameplay.finish(frame_figures(gameplay.path))
    delete_states(draft.path / "checkpoints")
    return draft.finish(_figures(config, draft, num_actions, training))


class Training:
    """The actors of one run and its checkpoints."""

    def __init__(self, config: TrainDqnConfig, draft: Draft, num_actions: int, frames_folder: Path | None) -> None:
        self._config, self._folder = config, draft.path.resolve()
        self._checkpoints = self._folder / "checkpoints"
        self._frames_folder = frames_folder.resolve() if frames_folder is not None else None
        self._reserve()
        self._server = ReplayServerActor.options(num_cpus=SERVER_CPUS).remote(
            config.replay,
            frame_stack=config.network.frame_stack,
            use_per=config.use_per,
            batch_size=config.learner.batch_size,
            num_updates=config.num_updates,
            seed=config.seed,
        )
        source = ServerSource(self._server, config.learner.batch_size)
        self._learner = LearnerActor.options(num_cpus=config.resources.num_cpus, num_gpus=self._gpus).remote(
            num_actions, config.network, config.learner, config.resources, config.seed, source
        )
        counters, num_updates = self._load()
        self._supervisor = Supervisor(
            self._plan(), self._server, self._learner, self._start_worker, config.exploration.epsilon, counters,
            num_updates,
        )  # fmt: skip

    @property
    def is_done(self) -> bool:
        """Whether the run reached its end."""
        return self._supervisor.is_done

    @property
    def num_steps(self) -> int:
        """Agent steps so far."""
        return self._supervisor.counters.num_steps

    def figures(self) -> dict[str, int]:
        """Counts of the run."""
        supervisor = self._supervisor
        return {
            "num_steps": supervisor.counters.num_steps,
            "num_updates": supervisor.num_updates,
            "num_episodes": supervisor.counters.num_episodes,
            "num_lost_workers": supervisor.num_lost_workers,
        }

    def run(self, stop: StopRequest, log: MetricLog) -> None:
        """Train to the end or until stopped; a checkpoint, or the final weights, are written either way."""
        self._supervisor.start(self._config.workers.num_workers)
        with Progress("train-dqn", self._config.num_steps, "steps", initial=self.num_steps) as progress:
            self._supervisor.run(
                lambda: bool(stop), log.write, self._save, lambda steps: progress.advance_to(steps, self._note())
            )
        self._supervisor.close_workers()
        self._save()
        if self.is_done:
            path = weights_path(self._folder, use_per=self._config.use_per)
            ray.get(self._learner.save_weights.remote(path))

    def close(self) -> None:
        """Give the actors' resources back."""
        for actor in (self._learner, self._server, *self._supervisor._workers):
            ray.kill(actor)

    def _note(self) -> str:
        return f"{self._supervisor.num_updates:,} updates, {self._supervisor.counters.num_episodes} episodes"

    def _plan(self) -> Plan:
        config = self._config
        return Plan(
            num_steps=config.num_steps,
            num_updates=config.num_updates,
            rollout_steps=config.workers.rollout_steps,
            envs_per_worker=config.workers.envs_per_worker,
            log_period_s=config.log_period_s,
            checkpoint_period_updates=config.checkpoint_period_updates,
        )

    def _start_worker(self, blocks: list[int]) -> Any:
        config = self._config
        return start_worker(
            AtariFactory(config.env), blocks, config.network, config.seed, self._server, self._frames_folder,
            config.workers.cpus_per_worker,
        )  # fmt: skip

    @property
    def _gpus(self) -> int:
        if self._config.resources.device not in {"auto", "cuda"}:
            return 0
        return int(ray.cluster_resources().get("GPU", 0) >= 1)

    def _reserve(self) -> None:
        """Wait for, or refuse, a cluster that has no room."""
        workers, resources = self._config.workers, self._config.resources
        cpus = workers.num_workers * workers.cpus_per_worker + resources.num_cpus + SERVER_CPUS
        require_resources(cpus=cpus, gpus=1 if resources.device == "cuda" else 0)

    def _save(self) -> None:
        """Write a checkpoint; the pointer to it comes last, and older ones go only then."""
        config, updates = self._config, self._supervisor.num_updates
        name = checkpoint_name(updates)
        path = checkpoint_path(self._checkpoints, updates, use_per=config.use_per)
        extra = {"counters": self._supervisor.counters.as_dict(), "config": config.model_dump_json()}
        learner = self._learner.save.remote(path, extra)
        server = self._server.save.remote(self._checkpoints, name, with_frames=config.save_replay)
        ray.get([learner, server])
        write_json(self._checkpoints / LATEST, {"num_updates": updates, **self._supervisor.counters.as_dict()})
        delete_states(self._checkpoints, keep=name)
        for old in sorted(self._checkpoints.glob("*.pth"))[:-2]:
            old.unlink()

    def _load(self) -> tuple[Counters, int]:
        """Where the last checkpoint was, with learner and server brought there; the beginning if there is none."""
        latest = self._checkpoints / LATEST
        if not latest.exists():
            return Counters(), 0
        counters = json.loads(latest.read_text())
        num_updates = counters.pop("num_updates")
        path = checkpoint_path(self._checkpoints, num_updates, use_per=self._config.use_per)
        try:
            ray.get(self._learner.load.remote(path))
            ray.get(self._server.load.remote(self._checkpoints, checkpoint_name(num_updates)))
        except ray.exceptions.RayTaskError as error:
            raise LapaError(str(error.cause)) if isinstance(error.cause, LapaError) else error from error
        return Counters(**counters), num_updates


def _check(config: TrainDqnConfig) -> int:
    """Refuse what cannot work before anything is written; returns the game's number of actions."""
    if cluster_address() is None:
        resolve_device(config.resources.device)
    if config.replay.min_size > config.replay.capacity:
        raise LapaError(
            f"--replay.min_size {config.replay.min_size}: larger than --replay.capacity {config.replay.capacity}."
        )
    if config.num_updates == 0:
        raise LapaError(
            f"--num_steps {config.num_steps}: ends before the first update (--replay.min_size "
            f"{config.replay.min_size}); play more steps, or lower min_size."
        )
    return AtariEnv(config.env).num_actions


def _begin_gameplay(config: TrainDqnConfig, draft: Draft) -> Draft:
    """The frames artefact inside the agent's: its own manifest, the same config."""
    out = draft.path / GAMEPLAY
    return Draft.begin(config.model_copy(update={"out": out, "resume": (out / "run.json").exists()}), "frames")


def _figures(
    config: TrainDqnConfig, draft: Draft, num_actions: int, training: Training
) -> dict[str, float | int | str | None]:
    returns = [row["return"] for row in read_metrics(draft.metrics_path) if row.get("return") is not None]
    return {
        "game": config.env.game,
        "num_actions": num_actions,
        "replay": "prioritised" if config.use_per else "uniform",
        **training.figures(),
        "last_mean_return": float(returns[-1]) if returns else None,
    }
