"""`record`: agent → frames. Whole episodes, every emulator frame, RAM and executed actions, on parallel workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import ray
from pydantic import Field, PositiveInt

from lapa_ray.actors.cluster import ray_session, require_resources
from lapa_ray.actors.episode_player import EpisodePlayerActor, PlaySettings
from lapa_ray.core.artefact import Artefact, Draft, open_artefact
from lapa_ray.core.config import Config, Fraction, RayConfig, StageConfig
from lapa_ray.core.errors import LapaError, StoppedError
from lapa_ray.core.progress import Progress
from lapa_ray.core.stop import StopRequest, stop_on_signal
from lapa_ray.dataset.reader import read_shards, shard_paths
from lapa_ray.dataset.summary import frame_figures
from lapa_ray.envs.atari_env import AtariEnv, AtariEnvConfig
from lapa_ray.models.q_network import QNetwork, load_agent


class RecordResources(Config):
    """Who plays; an episode is the same whoever plays it."""

    part_of_identity = False

    num_workers: PositiveInt = 2
    """Players, one process each; one a core is best."""
    cpus_per_worker: float = Field(1.0, gt=0)
    """CPU cores that Ray reserves for a player."""
    compression_level: int = Field(6, ge=1, le=22)
    """Zstandard level of the shards: higher is smaller and slower."""


class RecordConfig(StageConfig):
    """Records whole episodes."""

    agent: Path | Literal["random"]
    """Agent artefact to play with, or the word random."""
    num_episodes: PositiveInt = 100
    """Episodes to record, ids 0 to num_episodes − 1."""
    epsilon: Fraction = 0.05
    """Share of random actions of an agent (Mnih et al. 2015 evaluate with 0.05); random play takes no notice."""
    max_steps: PositiveInt | None = None
    """Agent steps after which an episode is truncated; only the game's own end if not given."""
    env: AtariEnvConfig = AtariEnvConfig()
    """Game; must be the one that the agent was trained on."""
    resources: RecordResources = RecordResources()
    """Who plays."""
    ray: RayConfig = RayConfig()
    """A local Ray; unused when RAY_ADDRESS names a cluster."""


CONFIG = RecordConfig


def run(config: RecordConfig) -> Artefact:
    """Record and write the frames artefact."""
    agent = None if config.agent == "random" else open_artefact(Path(config.agent), "agent")
    network = None if agent is None else load_agent(agent)
    _check_game(config, agent, network)
    draft = Draft.begin(config, "frames", {} if agent is None else {"agent": agent})
    settings = _settings(config, agent, network)
    missing = _missing_episodes(config, draft.path)
    with ray_session(config.ray), stop_on_signal() as stop:
        if missing:
            _play(config, network, settings, draft.path, missing, stop)
    missing = _missing_episodes(config, draft.path)
    if missing:
        draft.pause()
        raise StoppedError(
            f"stopped with {config.num_episodes - len(missing)} of {config.num_episodes} episodes recorded; "
            "give the same command with --resume to continue."
        )
    return draft.finish({**frame_figures(draft.path), "policy": settings.policy_name})


def _play(
    config: RecordConfig,
    network: QNetwork | None,
    settings: PlaySettings,
    folder: Path,
    episode_ids: list[int],
    stop: StopRequest,
) -> None:
    num_workers = min(config.resources.num_workers, len(episode_ids))
    require_resources(cpus=num_workers * config.resources.cpus_per_worker)
    shared = ray.put(network)
    make = EpisodePlayerActor.options(num_cpus=config.resources.cpus_per_worker).remote
    players = [
        make(lambda: AtariEnv(config.env), shared, settings, folder.resolve(), f"player-{index:03d}")
        for index in range(num_workers)
    ]
    try:
        _hand_out(players, episode_ids, config.num_episodes, stop)
        ray.get([player.close.remote() for player in players])
    finally:
        for player in players:
            ray.kill(player)


def _hand_out(players: list[Any], episode_ids: list[int], total: int, stop: StopRequest) -> None:
    """Give each player the next episode as it becomes free; on a stop request the ones under way are finished."""
    waiting = list(reversed(episode_ids))
    playing: dict[Any, Any] = {}
    with Progress("record", total, "episodes", initial=total - len(episode_ids)) as progress:
        idle = list(players)
        while playing or (waiting and not stop):
            while idle and waiting and not stop:
                player = idle.pop()
                playing[player.play.remote(waiting.pop())] = player
            ready, _ = ray.wait(list(playing), num_returns=1, timeout=1.0)
            for reference in ready:
                played = _result(reference)
                idle.append(playing.pop(reference))
                progress.advance(note=f"last return {played.episode_return:,.0f}")


def _result(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayActorError as error:
        raise LapaError("a player died; give the same command with --resume to continue.") from error
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, (LapaError, OSError)) else error from error


def _missing_episodes(config: RecordConfig, folder: Path) -> list[int]:
    """Episodes that no whole shard holds yet."""
    shards = shard_paths(folder)
    recorded = set(read_shards(shards)[1]) if shards else set()
    return [episode for episode in range(config.num_episodes) if episode not in recorded]


def _settings(config: RecordConfig, agent: Artefact | None, network: QNetwork | None) -> PlaySettings:
    stack = 1 if agent is None else int(agent.manifest.config["network"]["frame_stack"])
    return PlaySettings(
        epsilon=1.0 if network is None else config.epsilon,
        seed=config.seed,
        max_steps=config.max_steps,
        frame_stack=stack,
        policy_name="random" if agent is None else f"agent {agent.identity}",
        compression_level=config.resources.compression_level,
    )


def _check_game(config: RecordConfig, agent: Artefact | None, network: QNetwork | None) -> None:
    num_actions = AtariEnv(config.env).num_actions
    if agent is None or network is None:
        return
    game = agent.manifest.figures.get("game")
    if game != config.env.game or network.head.out_features != num_actions:
        raise LapaError(
            f"--agent {agent.path}: trained on {game} ({network.head.out_features} actions), but --env.game is "
            f"{config.env.game} ({num_actions} actions); give the game that it was trained on."
        )
