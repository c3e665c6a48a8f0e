"""The training of a DQN agent: its config, its actors and the loop that drives them.

What `train-dqn` runs once and a comparison runs many times. It knows neither artefacts' ends nor what is made of them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import ray
import torch
from pydantic import Field, PositiveInt

from lapa_ray.actors.checkpoints import Checkpoints
from lapa_ray.actors.cluster import num_gpus, require_resources, wait_for_actors
from lapa_ray.actors.episode_blocks import EpisodeBlocks
from lapa_ray.actors.learner import LearnerActor, LearnerConfig, LearnerResources, ServerSource
from lapa_ray.actors.placement import Placement
from lapa_ray.actors.replay_server import ReplayServerActor
from lapa_ray.actors.rollout_worker import WorkerConfig, start_worker
from lapa_ray.actors.run_log import Counters
from lapa_ray.actors.supervisor import Plan, Supervisor
from lapa_ray.actors.worker_pool import WorkerPool, result_of
from lapa_ray.core.config import NOT_IDENTITY, Config, RayConfig, StageConfig
from lapa_ray.core.metric_log import MetricLog
from lapa_ray.core.progress import Progress
from lapa_ray.core.stop import StopRequest
from lapa_ray.envs.atari_env import AtariEnv, AtariEnvConfig
from lapa_ray.models.checkpoint import save_checkpoint
from lapa_ray.models.q_network import QNetworkConfig, weights_path
from lapa_ray.replay.buffer import ReplayConfig


class ExplorationConfig(Config):
    """ε of all workers: max(minimum, base^(t / decay_steps)), t the agent steps of all workers."""

    base: float = Field(0.1, gt=0, le=1)
    """Share of random actions, in [0, 1], after decay_steps steps: the base of the power."""
    decay_steps: PositiveInt = 1_000_000
    """Agent steps after which ε has come down to base."""
    minimum: float = Field(0.1, ge=0, le=1)
    """Share of random actions, in [0, 1], that ε never falls below."""

    def epsilon(self, num_steps: int) -> float:
        """ε after so many agent steps."""
        return float(max(self.minimum, self.base ** (num_steps / self.decay_steps)))


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
    workers: WorkerConfig = WorkerConfig()
    """Who plays."""
    resources: LearnerResources = LearnerResources()
    """Where the learner runs."""
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
        self._placement, self._num_started = placement or Placement(), 0
        self._config, self._folder, self._checkpoints = config, folder.resolve(), checkpoints
        self._frames_folder = frames_folder.resolve() if frames_folder is not None else None
        self._blocks = EpisodeBlocks(self._folder / ".episode_blocks.json")
        self._server = self._start_server()
        self._learner = self._start_learner(num_actions)
        self._pool = WorkerPool(self._start_worker)
        self._counters, self._returns = Counters(), list[float]()

    def run(self, stop: StopRequest, log: MetricLog) -> bool:
        """Train to the end or until stopped, and write a checkpoint either way. Returns whether the end was reached."""
        self._counters = self._checkpoints.load(self._learner, self._server)
        self._pool.start(self._config.workers.num_workers)
        wait_for_actors([self._server, self._learner, *self._pool.handles], lambda: bool(stop))
        supervisor = Supervisor(
            _plan(self._config),
            self._server,
            self._learner,
            self._pool,
            self._config.exploration.epsilon,
            self._counters,
        )
        with Progress("train-dqn", self._config.num_steps, "steps", initial=self._counters.num_steps) as progress:
            supervisor.run(lambda: bool(stop), log.write, self._save, lambda: self._show(progress))
        self._returns = list(supervisor.log.recent_returns)
        self._pool.close()
        self._save()
        if supervisor.is_done:
            self._save_weights()
        return supervisor.is_done

    def figures(self) -> dict[str, float | int | None]:
        """Counts of the run, and the mean return of its last 100 training episodes."""
        return {
            **self._counters.as_dict(),
            "num_lost_workers": self._pool.num_lost,
            "num_skipped_steps": result_of(self._server.status.remote(), "replay server").num_skipped,
            "last_mean_return": sum(self._returns) / len(self._returns) if self._returns else None,
        }

    def close(self) -> None:
        """End all actors, so that their resources are free again."""
        self._pool.kill()
        for actor in (self._learner, self._server):
            ray.kill(actor)

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
            max_waiting_steps=2 * workers.num_workers * workers.envs_per_worker * workers.rollout_steps,
        )

    def _start_learner(self, num_actions: int) -> Any:
        config = self._config
        resources = config.resources.on_machine(config.workers.num_workers)
        source = ServerSource(self._server, wants_td_errors=config.use_per)
        options = {"num_cpus": resources.num_cpus, "num_gpus": num_gpus(config.resources.device)}
        return LearnerActor.options(**options, scheduling_strategy=self._placement.learner).remote(
            num_actions, config.network, config.learner, resources, config.seed, source
        )

    def _start_worker(self) -> Any:
        config, number = self._config, self._num_started
        self._num_started += 1
        return start_worker(
            partial(AtariEnv, config.env),
            self._blocks.take(config.workers.envs_per_worker),
            config.network,
            config.seed,
            self._server,
            self._frames_folder,
            config.workers.cpus_per_worker,
            self._placement.worker(number, config.workers.num_workers),
        )

    def _show(self, progress: Progress) -> None:
        note = f"{self._counters.num_updates:,} updates, {self._counters.num_episodes} episodes"
        progress.advance_to(self._counters.num_steps, note)

    def _save(self) -> None:
        self._checkpoints.save(self._learner, self._server, self._counters)

    def _save_weights(self) -> None:
        """The final weights alone, as others take them."""
        weights = result_of(self._learner.weights.remote(), "learner")
        state = {name: torch.tensor(value) for name, value in weights.items()}
        save_checkpoint(weights_path(self._folder, use_per=self._config.use_per), state)


def checkpoints_of(config: TrainDqnConfig, folder: Path, resolved: dict[str, Any]) -> Checkpoints:
    """The checkpoints of the run in `folder`, whose resolved config is written into each."""
    return Checkpoints(
        folder.resolve() / "checkpoints", use_per=config.use_per, with_replay=config.save_replay, config=resolved
    )


def _plan(config: TrainDqnConfig) -> Plan:
    return Plan(
        num_steps=config.num_steps,
        num_updates=config.num_updates,
        rollout_steps=config.workers.rollout_steps,
        envs_per_worker=config.workers.envs_per_worker,
        log_period_s=config.log_period_s,
        checkpoint_period_updates=config.checkpoint_period_updates,
    )


def require_room(config: TrainDqnConfig) -> None:
    """Wait for, or refuse, a cluster that has no room for the actors."""
    cpus = config.workers.num_workers * config.workers.cpus_per_worker + config.resources.num_cpus
    require_resources(cpus=cpus, gpus=num_gpus(config.resources.device))
