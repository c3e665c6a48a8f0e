"""`record`: agent → frames. Whole episodes, every emulator frame, RAM and executed actions, on parallel workers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import ray
from pydantic import Field, NonNegativeInt, PositiveInt

from lapa_ray.actors.cluster import ray_session
from lapa_ray.actors.episode_player import EpisodePlayerActor, PlaySettings
from lapa_ray.actors.recording import Recording
from lapa_ray.core.artefact import Artefact, Draft, open_artefact
from lapa_ray.core.config import Config, Fraction, PlainStageConfig, RayConfig
from lapa_ray.core.errors import LapaError, StoppedError
from lapa_ray.core.files import scratch_folder
from lapa_ray.core.progress import Progress
from lapa_ray.core.stop import StopRequest, stop_on_signal
from lapa_ray.dataset.shards import read_shards, shard_paths
from lapa_ray.dataset.summary import frame_figures
from lapa_ray.envs.atari_env import AtariEnv, AtariEnvConfig
from lapa_ray.envs.planner import PLANNER, PlannerConfig, check_plannable, make_planner
from lapa_ray.models.q_network import QNetwork, load_agent

RANDOM = "random"


class RecordResources(Config):
    """Who plays; an episode is the same whoever plays it."""

    part_of_identity = False

    num_workers: PositiveInt | None = None
    """Players, one process each; one a core of Ray if not given."""
    cpus_per_worker: float = Field(0.5, gt=0)
    """CPU cores that Ray reserves for a player."""
    compression_level: int = Field(6, ge=1, le=22)
    """Zstandard level of the shards: higher is smaller and slower."""


class RecordConfig(PlainStageConfig):
    """Records whole episodes."""

    agent: Literal["random", "planner"] | Path  # in this order: any word would do as a path
    """Agent artefact to play with, or random, or planner, which looks ahead on the emulator and learns nothing."""
    num_episodes: PositiveInt = 100
    """Episodes to record, ids 0 to num_episodes − 1."""
    epsilon: Fraction = 0.05
    """Share of random actions of an agent (Mnih et al. 2015 evaluate with 0.05); the two words take no notice."""
    max_steps: PositiveInt | None = None
    """Agent steps after which an episode is truncated; only the game's own end if not given."""
    planner_episodes: NonNegativeInt = 0
    """How many of the episodes the planner plays, spread evenly over the ids; the agent plays the others."""
    planner_max_steps: PositiveInt | None = None
    """The same as max_steps for the planner's episodes, which are long; max_steps if not given."""
    planner: PlannerConfig = PlannerConfig()
    """How the planner plays, Ms. Pac-Man only."""
    env: AtariEnvConfig = AtariEnvConfig()
    """Game; must be the one that the agent was trained on."""
    resources: RecordResources = RecordResources()
    """Who plays."""
    ray: RayConfig = RayConfig()
    """A local Ray; unused when RAY_ADDRESS names a cluster."""

    def is_planned(self, episode_id: int) -> bool:
        """Whether the planner plays the episode; the id alone decides, so that a resumed run goes on with the same."""
        if self.agent == PLANNER:
            return True
        before, after = (number * self.planner_episodes // self.num_episodes for number in (episode_id, episode_id + 1))
        return after > before


CONFIG = RecordConfig


def run(config: RecordConfig) -> Artefact:
    """Record and write the frames artefact."""
    agent = None if config.agent in (RANDOM, PLANNER) else open_artefact(Path(config.agent), "agent")
    network = None if agent is None else load_agent(agent)
    _check_game(config, agent, network)
    _check_observations(config, agent)
    _check_planned(config)
    draft = Draft.begin(config, "frames", {} if agent is None else {"agent": agent})
    missing = _missing_episodes(config, draft.path)
    folder = draft.path.resolve()
    with ray_session(config.ray), stop_on_signal() as stop, scratch_folder(folder) as scratch:
        make_player = _player_maker(config, _settings(config, agent), network, folder, scratch)
        while missing and not stop:
            _record(config, make_player, missing, stop)
            before, missing = missing, _missing_episodes(config, draft.path)
            if missing == before and not stop:
                raise LapaError("every player died before it put its episodes in place; add --resume to try again.")
    if missing:
        draft.pause()
        raise StoppedError(
            f"stopped with {config.num_episodes - len(missing)} of {config.num_episodes} episodes recorded; "
            "give the same command with --resume to continue."
        )
    return draft.finish(frame_figures(draft.path) | _policy_figures(draft.path))


def _record(config: RecordConfig, make_player: Callable[[str], Any], missing: list[int], stop: StopRequest) -> None:
    total = config.num_episodes
    with Progress("record", total, "episodes", initial=total - len(missing)) as progress:
        players = config.resources
        num_players = players.num_workers or max(int(ray.cluster_resources().get("CPU", 1)), 1)
        recording = Recording(make_player, config.is_planned, num_players, players.cpus_per_worker)
        recording.run(missing, progress, stop)


def _player_maker(
    config: RecordConfig, settings: PlaySettings, network: QNetwork | None, folder: Path, scratch: Path
) -> Callable[[str], Any]:
    reference = ray.put(network)
    options = {"num_cpus": config.resources.cpus_per_worker, "scheduling_strategy": "SPREAD"}
    planner = partial(make_planner, config.env, config.planner)

    def make_player(name: str) -> Any:
        return EpisodePlayerActor.options(**options).remote(
            partial(AtariEnv, config.env), reference, planner, settings, folder, scratch, name
        )

    return make_player


def _missing_episodes(config: RecordConfig, folder: Path) -> list[int]:
    """Episodes that no whole shard holds yet."""
    shards = shard_paths(folder)
    recorded = set(read_shards(shards)[1]) if shards else set()
    return [episode for episode in range(config.num_episodes) if episode not in recorded]


def _policy_figures(folder: Path) -> dict[str, float | int | str | None]:
    """Who played; of a mix how many episodes each played, and with which median return."""
    returns: dict[str, list[float]] = defaultdict(list)
    for rows in read_shards(shard_paths(folder))[1].values():
        returns[rows.policy].append(rows.total_reward)
    figures: dict[str, float | int | str | None] = {"policy": " + ".join(sorted(returns))}
    for policy, scores in sorted(returns.items()):
        kind = policy.partition(" ")[0]
        figures |= {f"{kind}_episodes": len(scores), f"{kind}_median_return": float(np.median(scores))}
    return figures


def _settings(config: RecordConfig, agent: Artefact | None) -> PlaySettings:
    stack = 1 if agent is None else int(agent.manifest.config["network"]["frame_stack"])
    return PlaySettings(
        epsilon=1.0 if agent is None else config.epsilon,
        seed=config.seed,
        max_steps=config.max_steps,
        planner_max_steps=config.planner_max_steps or config.max_steps,
        frame_stack=stack,
        policy_name=RANDOM if agent is None else f"agent {agent.identity}",
        compression_level=config.resources.compression_level,
    )


def _check_game(config: RecordConfig, agent: Artefact | None, network: QNetwork | None) -> None:
    num_actions = AtariEnv(config.env).num_actions
    if agent is None or network is None:
        return
    game = agent.manifest.figures.get("game")
    if game != config.env.game or network.num_actions != num_actions:
        raise LapaError(
            f"--agent {agent.path}: trained on {game} ({network.num_actions} actions), but --env.game is "
            f"{config.env.game} ({num_actions} actions); give the game that it was trained on."
        )


def _check_observations(config: RecordConfig, agent: Artefact | None) -> None:
    if agent is None:
        return
    saw = AtariEnvConfig(**agent.manifest.config["env"])
    if saw.obs_shape != config.env.obs_shape:
        raise LapaError(
            f"--agent {agent.path}: learnt from other observations; "
            f"give --env.obs_size {saw.obs_size} --env.obs_channels {saw.obs_channels}."
        )


def _check_planned(config: RecordConfig) -> None:
    if config.planner_episodes > config.num_episodes:
        raise LapaError(
            f"--planner_episodes {config.planner_episodes}: more than the {config.num_episodes} of --num_episodes; "
            "give at most as many."
        )
    if config.agent == PLANNER or config.planner_episodes:
        check_plannable(config.env.game)
