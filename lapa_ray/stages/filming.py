"""Filming: an episode id in, a whole video of that episode out, with what the player did and thought beside it.

An episode is decided by its id, as in `record`, so a film of an agent shows what a recording with the same seed holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from lapa_ray.actors.episode_policies import PlannerPolicy
from lapa_ray.core.errors import LapaError
from lapa_ray.core.files import replacing, write_json
from lapa_ray.core.pictures import Composite, Compositor, to_rgb
from lapa_ray.core.progress import Progress
from lapa_ray.core.seeds import generator_for, seed_for
from lapa_ray.core.stop import StopRequest
from lapa_ray.dataset.videos import write_video
from lapa_ray.envs.environment import FrameStack, RestorableEnvironment, Step
from lapa_ray.envs.planner import Planner
from lapa_ray.evaluation.play_panel import Moment, PlayPanel
from lapa_ray.models.q_network import QNetwork

Values = NDArray[np.float32]


@dataclass(frozen=True)
class FilmSettings:
    """How to film: what the player is called, the seed of all episodes, and the options of `record-video`."""

    title: str
    seed: int
    max_steps: int | None
    fps: float
    scale: int
    composite: Composite


@dataclass(frozen=True)
class Film:
    """A filmed episode: its raw score and its length in agent steps."""

    episode_return: float
    num_steps: int


class Player(Protocol):
    """Plays one episode after another, and tells what it thinks."""

    def begin(self, episode_id: int, step: Step) -> None:
        """Begin an episode, of which `step` is the reset."""

    def choose(self) -> tuple[int, bool, Values | None]:
        """The next action, whether chance chose it, and the values of all actions [num_actions] if it has any."""

    def see(self, step: Step) -> None:
        """Take in what the action led to."""


class NetworkPlayer:
    """ε-greedy play of a network; without one all is chance. A `Player`."""

    def __init__(self, network: QNetwork | None, num_actions: int, frame_stack: int, epsilon: float, seed: int) -> None:
        torch.set_num_threads(1)
        self._network, self._num_actions, self._epsilon, self._seed = network, num_actions, epsilon, seed
        self._frames = FrameStack(frame_stack)

    def begin(self, episode_id: int, step: Step) -> None:
        """Begin an episode."""
        self._generator = generator_for(self._seed, "policy", episode_id)
        self._stack = self._frames.reset(step.obs)

    def choose(self) -> tuple[int, bool, Values | None]:
        """The next action, drawn as `record` draws it."""
        is_random = bool(self._generator.random() < self._epsilon)
        drawn = int(self._generator.integers(self._num_actions))
        if self._network is None:
            return drawn, False, None
        with torch.inference_mode():
            values: Values = self._network(torch.tensor(self._stack[None]))[0].float().numpy()
        return (drawn if is_random else int(values.argmax())), is_random, values

    def see(self, step: Step) -> None:
        """Take in what the action led to."""
        self._stack = self._frames.push(step.obs)


class PlannerPlayer(PlannerPolicy):
    """The planner, which has no values of actions to tell. A `Player`."""

    def __init__(self, planner: Planner, env: RestorableEnvironment, seed: int) -> None:
        super().__init__(planner, env, seed)

    def choose(self) -> tuple[int, bool, Values | None]:
        """The next action."""
        return self.act(), False, None


@dataclass(frozen=True)
class Filming:
    """A player in its game, filmed."""

    env: RestorableEnvironment
    player: Player
    settings: FilmSettings

    def film(self, episode_id: int, folder: Path, stop: StopRequest, progress: Progress) -> Film | None:
        """Play an episode and put its file in place, unless it is there; None, and no file, once a `stop` comes."""
        path = folder / f"episode_{episode_id:06d}.mp4"
        told = path.with_suffix(".json")
        if path.exists() and told.exists():
            return _read(told)
        try:
            with replacing(path) as temporary:
                film = self._film(episode_id, temporary, stop, progress)
        except _BrokenOffError:
            return None
        write_json(told, asdict(film))
        return film

    def _film(self, episode_id: int, path: Path, stop: StopRequest, progress: Progress) -> Film:
        info, settings, last = self.env.info, self.settings, Moment(0.0, 0, 0, None)
        panel = PlayPanel(settings.title, info.action_meanings, info.height, info.width, settings.scale)

        def pictures() -> Iterator[NDArray[np.uint8]]:
            nonlocal last
            for screen, moment in self._play(episode_id):
                if stop:
                    raise _BrokenOffError
                last = moment
                progress.advance(0)
                yield panel.draw(screen, moment)

        write_video(path, pictures(), Fraction(settings.fps).limit_denominator(1000), lossless=False)
        return Film(last.score, last.step)

    def _play(self, episode_id: int) -> Iterator[tuple[NDArray[np.uint8], Moment]]:
        """Yield each step's screen RGB uint8 [height, width, 3] and what is told of it, the reset first."""
        info, compositor = self.env.info, Compositor(self.env.info.palette, self.settings.composite)
        step, score, count = self.env.reset(seed_for(self.settings.seed, "episode", episode_id)), 0.0, 0
        self.player.begin(episode_id, step)
        yield to_rgb(compositor(step.frames.screens), info.palette), Moment(0.0, 0, int(step.frames.lives[-1]), None)
        while not step.is_last and count != self.settings.max_steps:
            action, is_random, values = self.player.choose()
            step = self.env.step(action)
            self.player.see(step)
            score, count = score + step.reward, count + 1
            moment = Moment(score, count, int(step.frames.lives[-1]), action, is_random, values)
            yield to_rgb(compositor(step.frames.screens), info.palette), moment


class _BrokenOffError(Exception):
    """A stop was asked for in the middle of a film."""


def _read(path: Path) -> Film:
    try:
        return Film(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise LapaError(f"{path}: damaged ({error}); delete it, and its film is made again.") from error
