"""`record`: agent → frames. Whole episodes, every emulator frame, RAM and executed actions, on parallel workers."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any, Literal

import ray
from pydantic import Field, PositiveInt

from lapa_ray.actors.cluster import ray_session, require_resources, wait_for_actors
from lapa_ray.actors.episode_player import EpisodePlayerActor, PlayedEpisode, PlaySettings
from lapa_ray.actors.worker_pool import DEATHS, MAX_DEATHS_IN_A_ROW
from lapa_ray.core.artefact import Artefact, Draft, open_artefact
from lapa_ray.core.config import Config, Fraction, PlainStageConfig, RayConfig
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
    cpus_per_worker: float = Field(0.5, gt=0)
    """CPU cores that Ray reserves for a player."""
    compression_level: int = Field(6, ge=1, le=22)
    """Zstandard level of the shards: higher is smaller and slower."""


class RecordConfig(PlainStageConfig):
    """Records whole episodes."""

    agent: Literal["random"] | Path  # in this order: any word would do as a path
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
        while missing and not stop:
            _Recording(config, network, settings, draft.path.resolve()).run(missing, stop)
            before, missing = missing, _missing_episodes(config, draft.path)
            if missing == before and not stop:
                raise LapaError("every player died before it put its episodes in place; add --resume to try again.")
    if missing:
        draft.pause()
        raise StoppedError(
            f"stopped with {config.num_episodes - len(missing)} of {config.num_episodes} episodes recorded; "
            "give the same command with --resume to continue."
        )
    return draft.finish({**frame_figures(draft.path), "policy": settings.policy_name})


class _Recording:
    """Players that record episodes; whichever is free gets the next one. One that dies is replaced.

    With a player die the episodes of the shard that it had open; the caller sees which are missing and records them.
    """

    def __init__(self, config: RecordConfig, network: QNetwork | None, settings: PlaySettings, folder: Path) -> None:
        self._config, self._settings, self._folder = config, settings, folder
        self._network = ray.put(network)
        self._num_players = 0
        self._idle: list[Any] = []
        self._playing: dict[Any, tuple[Any, int]] = {}
        self._deaths_in_a_row = 0

    def run(self, episode_ids: list[int], stop: StopRequest) -> None:
        """Record `episode_ids`; on a stop request those under way are played to their end."""
        resources = self._config.resources
        num_players = min(resources.num_workers, len(episode_ids))
        require_resources(cpus=num_players * resources.cpus_per_worker)
        self._idle = [self._new_player() for _ in range(num_players)]
        try:
            wait_for_actors(self._idle, lambda: bool(stop))
            self._play_all(episode_ids, stop)
            self._close()
        finally:
            for player in [*self._idle, *(player for player, _ in self._playing.values())]:
                ray.kill(player)

    def _play_all(self, episode_ids: list[int], stop: StopRequest) -> None:
        waiting = list(reversed(episode_ids))
        total = self._config.num_episodes
        with Progress("record", total, "episodes", initial=total - len(episode_ids)) as progress:
            while self._playing or (waiting and not stop):
                while self._idle and waiting and not stop:
                    player, episode_id = self._idle.pop(), waiting.pop()
                    self._playing[player.play.remote(episode_id)] = (player, episode_id)
                ready, _ = ray.wait(list(self._playing), num_returns=1, timeout=1.0)
                progress.advance(0)
                for reference in ready:
                    played = self._take(reference)
                    if isinstance(played, int):
                        waiting.append(played)
                    else:
                        progress.advance(note=f"last return {played.episode_return:,.0f}")

    def _take(self, reference: Any) -> PlayedEpisode | int:
        """A finished episode, or the id of one whose player died."""
        player, episode_id = self._playing.pop(reference)
        try:
            played: PlayedEpisode = ray.get(reference)
        except DEATHS as error:
            self._replace(player, error)
            return episode_id
        self._deaths_in_a_row = 0
        self._idle.append(player)
        return played

    def _replace(self, player: Any, error: Exception) -> None:
        if isinstance(error, ray.exceptions.RayTaskError) or getattr(error, "actor_init_failed", False):
            raise error
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row >= MAX_DEATHS_IN_A_ROW:
            raise LapaError(
                f"players died {self._deaths_in_a_row} times in a row; give them more memory or ask for fewer "
                "(--resources.num_workers), then add --resume."
            ) from error
        print("A player died; another one takes its place and plays its episodes again.", file=sys.stderr, flush=True)
        ray.kill(player)
        self._idle.append(self._new_player())

    def _close(self) -> None:
        """Put all shards in place; those of a player that dies meanwhile are missing, and seen to be."""
        for closing in [player.close.remote() for player in self._idle]:
            try:
                ray.get(closing)
            except DEATHS as error:
                if isinstance(error, ray.exceptions.RayTaskError):
                    raise

    def _new_player(self) -> Any:
        config, name = self._config, f"player-{self._num_players:03d}"
        self._num_players += 1
        options = {"num_cpus": config.resources.cpus_per_worker, "scheduling_strategy": "SPREAD"}
        return EpisodePlayerActor.options(**options).remote(
            partial(AtariEnv, config.env), self._network, self._settings, self._folder, name
        )


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
