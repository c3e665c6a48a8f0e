"""The training of a DQN agent: its config, its actors and the loop that drives them.

What `train-dqn` runs once and a comparison runs many times. It knows neither artefacts' ends nor what is made of them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, PositiveInt

from lapa_ray.actors.checkpoints import Checkpoints
from lapa_ray.actors.cluster import num_gpus, require_resources, wait_for_actors
from lapa_ray.actors.crew import Casting, Crew
from lapa_ray.actors.episode_blocks import EpisodeBlocks
from lapa_ray.actors.exploration import ExplorationConfig
from lapa_ray.actors.frame_mirror import batch_source
from lapa_ray.actors.learner import LearnerActor, LearnerConfig, LearnerResources, ServerSource
from lapa_ray.actors.learning_view import LearningSettings
from lapa_ray.actors.placement import Placement
from lapa_ray.actors.replay_server import ReplayServerActor
from lapa_ray.actors.rollout_worker import RolloutOptions, WorkerConfig, start_worker
from lapa_ray.actors.run_log import Counters
from lapa_ray.actors.supervisor import Plan, Supervisor
from lapa_ray.core.config import NOT_IDENTITY, Config, RayConfig, StageConfig
from lapa_ray.core.errors import DivergedError
from lapa_ray.core.metric_log import MetricLog
from lapa_ray.core.progress import Progress
from lapa_ray.core.stop import StopRequest
from lapa_ray.envs.atari_env import AtariEnv, AtariEnvConfig
from lapa_ray.envs.shaping import ShapingConfig
from lapa_ray.models.checkpoint import save_checkpoint
from lapa_ray.models.q_network import QNetworkConfig, weights_path
from lapa_ray.replay.buffer import ReplayConfig


class DqnConfig(Config):
    """What a training of a double DQN agent does; the defaults are the source's. Its replay is chosen elsewhere."""

    num_steps: PositiveInt = 10_000_000
    """Agent steps of all workers."""
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
    shaping: ShapingConfig = ShapingConfig()
    """What is learnt from beside the score."""
    workers: WorkerConfig = WorkerConfig()
    """Who plays."""
    resources: LearnerResources = LearnerResources()
    """Where the learner runs."""
    log_period_s: Annotated[float, NOT_IDENTITY] = Field(5.0, gt=0)
    """Time between rows in the metric log, s."""
    checkpoint_period_updates: Annotated[int, NOT_IDENTITY] = Field(50_000, ge=1)
    """Updates between checkpoints."""
    save_replay: Annotated[bool, NOT_IDENTITY] = True
    """Keep the replay buffer in each checkpoint (7 kB a transition), else it is filled anew after a stop or a crash."""
    copy_period_updates: Annotated[int, NOT_IDENTITY] = Field(1_000, ge=1)
    """Updates between copies of the learner's state in Ray's memory; what a dead learner made since is made again."""

    @property
    def num_updates(self) -> int:
        """Updates that `num_steps` steps earn."""
        samples = self.replay.samples_per_insert * (self.num_steps - self.replay.min_size)
        return max(0, int(samples) // self.learner.batch_size)


class TrainDqnConfig(DqnConfig, StageConfig):
    """Trains a double DQN agent; the defaults are the source's."""

    use_per: bool = False
    """Prioritised experience replay instead of uniform."""
    ray: RayConfig = RayConfig()
    """A local Ray; unused when RAY_ADDRESS names a cluster."""


class Training:
    """The actors of one run, its checkpoints, and the loop that drives them."""

    def __init__(
        self,
        config: TrainDqnConfig,
        folder: Path,
        num_actions: int,
        frames_folder: Path | None,
        checkpoints: Checkpoints,
        placement: Placement | None = None,
    ) -> None:
        """`placement`: where the actors go, if not wherever the cluster has room."""
        self._placement = placement or Placement()
        self._config, self._folder, self._checkpoints = config, folder.resolve(), checkpoints
        self._frames_folder = frames_folder.resolve() if frames_folder is not None else None
        self._blocks = EpisodeBlocks(self._folder / ".episode_blocks.json")
        self._num_actions = num_actions
        self._crew = Crew(self._casting(), config.copy_period_updates)
        self._counters = checkpoints.newest() or Counters()
        self._supervisor = Supervisor(_plan(config), self._crew, config.exploration.epsilon, self._counters)

    def run(self, stop: StopRequest, log: MetricLog) -> bool:
        """Train to the end or until stopped, and write a checkpoint either way. Returns whether the end was reached.

        Raises `DivergedError` that names the last good checkpoint if what is learnt is no number any more.
        """
        crew, supervisor = self._crew, self._supervisor
        supervisor.attempt(self._load)
        crew.pool.start(self._config.workers.num_workers)
        wait_for_actors([crew.server.handle, crew.learner.handle, *crew.pool.handles], lambda: bool(stop))
        try:
            with Progress("train-dqn", self._config.num_steps, "steps", initial=self._counters.num_steps) as progress:
                supervisor.run(lambda: bool(stop), log.write, self._save, lambda: self._show(progress))
            crew.pool.close()
            supervisor.attempt(self._save)
        except DivergedError as error:
            path = self._checkpoints.newest_path()
            kept = f"The last good checkpoint is {path}." if path else "No checkpoint had been written yet."
            raise DivergedError(f"{error}\n{kept}") from error
        if supervisor.is_done:
            self._save_weights()
        return supervisor.is_done

    def figures(self) -> dict[str, float | int | None]:
        """Counts of the run, who died in it, and the mean return of its last 100 training episodes."""
        crew, returns = self._crew, self._supervisor.log.recent_returns
        return {
            **self._counters.as_dict(),
            "num_lost_workers": crew.pool.num_lost,
            "num_lost_learners": crew.learner.num_lost,
            "num_lost_servers": crew.server.num_lost,
            "num_env_failures": crew.pool.num_env_failures,
            "num_skipped_steps": self._supervisor.attempt(lambda: crew.server.ask("status").num_skipped),
            "last_mean_return": sum(returns) / len(returns) if returns else None,
        }

    def close(self) -> None:
        """End all actors, so that their resources are free again."""
        self._crew.end()

    def _casting(self) -> Casting:
        return Casting(
            server=self._start_server,
            learner=self._start_learner,
            worker=self._start_worker,
            source=self._source,
            load_server=self._checkpoints.load_server,
            load_learner=self._checkpoints.load_learner,
            max_env_failures=self._config.workers.max_env_failures,
        )

    def _start_server(self) -> Any:
        """The server writes its snapshots itself, so it runs on this node, whatever room there is."""
        config, workers = self._config, self._config.workers
        return ReplayServerActor.options(num_cpus=0, scheduling_strategy=self._placement.server).remote(
            config.replay,
            frame_stack=config.network.frame_stack,
            use_per=config.use_per,
            batch_size=config.learner.batch_size,
            num_updates=config.num_updates,
            seed=config.seed,
            max_waiting_steps=2 * workers.num_envs * workers.rollout_steps,
            gamma=config.learner.gamma,
            obs_shape=config.env.obs_shape,
        )

    def _source(self, server: Any) -> ServerSource:
        return batch_source(server, self._config.resources, wants_td_errors=self._config.use_per)

    def _start_learner(self, server: Any) -> Any:
        config = self._config
        resources = config.resources.on_machine()
        options = {"num_cpus": resources.num_cpus, "num_gpus": num_gpus(config.resources.device)}
        return LearnerActor.options(**options, scheduling_strategy=self._placement.learner).remote(
            self._num_actions,
            config.network,
            config.learner,
            resources,
            config.seed,
            self._source(server),
            config.env.obs_shape,
        )

    def _start_worker(self, server: Any, index: int) -> Any:
        config = self._config
        return start_worker(
            partial(AtariEnv, config.env, keep_frames=self._frames_folder is not None),
            self._blocks.take(config.workers.envs_per_worker),
            config.network,
            config.seed,
            server,
            self._frames_folder,
            config.workers.cpus_per_worker,
            options=_rollout_options(config),
            scheduling_strategy=self._placement.worker(index),
        )

    def _show(self, progress: Progress) -> None:
        note = f"{self._counters.num_updates:,} updates, {self._counters.num_episodes} episodes"
        progress.advance_to(self._counters.num_steps, note)

    def _load(self) -> None:
        self._checkpoints.load_learner(self._crew.learner)
        self._checkpoints.load_server(self._crew.server)
        if run := self._checkpoints.load_run():
            self._supervisor.set_state(run)

    def _save(self) -> None:
        crew, run = self._crew, self._supervisor.get_state()
        self._checkpoints.save(crew.server, crew.learner_state(), self._counters, run)

    def _save_weights(self) -> None:
        """The final weights alone, as others take them."""
        weights = self._supervisor.attempt(lambda: self._crew.learner.ask("weights"))
        state = {name: torch.tensor(value) for name, value in weights.items()}
        save_checkpoint(weights_path(self._folder, use_per=self._config.use_per), state)


def checkpoints_of(config: TrainDqnConfig, folder: Path, resolved: dict[str, Any]) -> Checkpoints:
    """The checkpoints of the run in `folder`, whose resolved config is written into each."""
    return Checkpoints(
        folder.resolve() / "checkpoints", use_per=config.use_per, with_replay=config.save_replay, config=resolved
    )


def _rollout_options(config: TrainDqnConfig) -> RolloutOptions:
    learner = config.learner
    return RolloutOptions(
        ladder=config.exploration.ladder_of(config.workers.num_envs),
        with_values=config.use_per and config.replay.actor_priorities,
        learning=LearningSettings(learner.clip_rewards, learner.life_loss_terminal, learner.gamma, config.shaping),
    )


def _plan(config: TrainDqnConfig) -> Plan:
    return Plan(
        num_steps=config.num_steps,
        num_updates=config.num_updates,
        rollout_steps=config.workers.rollout_steps,
        envs_per_worker=config.workers.envs_per_worker,
        log_period_s=config.log_period_s,
        checkpoint_period_updates=config.checkpoint_period_updates,
        max_weights_age_updates=config.workers.max_weights_age_updates,
    )


def require_room(config: TrainDqnConfig) -> None:
    """Wait for, or refuse, a cluster that has no room for the actors."""
    cpus = config.workers.num_workers * config.workers.cpus_per_worker + config.resources.num_cpus
    require_resources(cpus=cpus, gpus=num_gpus(config.resources.device))
