"""`record-video`: agent → videos. Its episodes as MP4, with score, action and the value of each action beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt

from lapa_ray.core.artefact import Artefact, Draft, open_artefact
from lapa_ray.core.config import Fraction, PlainStageConfig
from lapa_ray.core.errors import LapaError, StoppedError
from lapa_ray.core.pictures import Composite
from lapa_ray.core.progress import Progress
from lapa_ray.core.stop import STOPPING, stop_on_signal
from lapa_ray.dataset.videos import check_writable
from lapa_ray.envs.atari_env import AtariEnv, AtariEnvConfig
from lapa_ray.envs.planner import PLANNER, PlannerConfig, check_plannable, make_planner
from lapa_ray.models.q_network import load_agent
from lapa_ray.stages.filming import Film, Filming, FilmSettings, NetworkPlayer, PlannerPlayer, Player

RANDOM = "random"
NO_CAP = AtariEnvConfig().max_frames


class RecordVideoConfig(PlainStageConfig):
    """Films episodes, with what the player did and thought beside the picture."""

    agent: Literal["random", "planner"] | Path  # in this order: any word would do as a path
    """Agent artefact to play with, or random, or planner, which looks ahead on the emulator and learns nothing."""
    game: str = "MsPacman"
    """Game of random play and of the planner, as in ALE/MsPacman-v5; an agent plays the one that it was trained on."""
    num_episodes: PositiveInt = 3
    """Episodes to film, ids 0 to num_episodes − 1, a file each."""
    max_steps: PositiveInt | None = None
    """Agent steps after which a film ends; only the game's own end if not given."""
    epsilon: Fraction = 0.05
    """Share of random actions of an agent (Mnih et al. 2015 evaluate with 0.05)."""
    fps: float = Field(15.0, ge=1, le=120)
    """Pictures a second, one an agent step: at frame_skip 4 the game itself has 15."""
    scale: int = Field(3, ge=1, le=8)
    """Size of a pixel of the game in the film, pixels."""
    composite: Composite = "max4"
    """Picture of a step: of greatest luminance over its last 4 or 2 frames, or the last one, where ghosts flicker."""


CONFIG = RecordVideoConfig


def run(config: RecordVideoConfig) -> Artefact:
    """Film and write the videos artefact: an MP4 an episode, and what became of it in a JSON file of the same name."""
    agent = None if config.agent in (RANDOM, PLANNER) else open_artefact(Path(config.agent), "agent")
    filming = _filming(config, agent)
    draft = Draft.begin(config, "videos", {} if agent is None else {"agent": agent})
    films: list[Film] = []
    with stop_on_signal(said=STOPPING) as stop, Progress("record-video", config.num_episodes, "episodes") as progress:
        while len(films) < config.num_episodes:
            film = filming.film(len(films), draft.path, stop, progress)
            if film is None:
                draft.pause()
                raise StoppedError(
                    f"stopped with {len(films)} of {config.num_episodes} films; add --resume to continue."
                )
            films.append(film)
            progress.advance(note=f"last return {film.episode_return:,.0f}")
    return draft.finish(
        {
            "game": filming.env.info.game,
            "policy": filming.settings.title,
            "num_episodes": len(films),
            "num_steps": sum(film.num_steps for film in films),
            "mean_return": sum(film.episode_return for film in films) / len(films),
        }
    )


def _filming(config: RecordVideoConfig, agent: Artefact | None) -> Filming:
    """Raises `LapaError` for a game that there is not, or that the planner does not know, and without PyAV."""
    check_writable(0, 0, lossless=False)
    env_config = AtariEnvConfig(game=config.game)
    if agent is not None:
        env_config = AtariEnvConfig(**agent.manifest.config["env"] | {"max_frames": NO_CAP})
    elif config.agent == PLANNER:
        check_plannable(config.game)
    env = AtariEnv(env_config)
    if agent is not None:
        title, player = _agent_player(config, agent, env)
    elif config.agent == PLANNER:
        title, player = PLANNER, PlannerPlayer(make_planner(env_config, PlannerConfig()), env, config.seed)
    else:
        title, player = RANDOM, NetworkPlayer(None, env.num_actions, 1, 1.0, config.seed)
    settings = FilmSettings(title, config.seed, config.max_steps, config.fps, config.scale, config.composite)
    return Filming(env, player, settings)


def _agent_player(config: RecordVideoConfig, agent: Artefact, env: AtariEnv) -> tuple[str, Player]:
    said = agent.manifest
    if said.figures.get("num_actions") != env.num_actions:
        raise LapaError(
            f"--agent {agent.path}: has {said.figures.get('num_actions')} actions, but {env.info.game} has "
            f"{env.num_actions} here; train it again."
        )
    title = f"DQN {'PER' if said.config.get('use_per') else 'uniform'}, {int(said.figures['num_steps'] or 0):,} steps"
    stack = int(said.config["network"]["frame_stack"])
    return title, NetworkPlayer(load_agent(agent), env.num_actions, stack, config.epsilon, config.seed)
