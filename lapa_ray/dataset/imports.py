"""Imports: sources in, shards of frames out. Pictures are looked through once before anything is written.

They are stored as palette indices where a palette says every colour of every picture exactly, and as RGB otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.errors import LapaError
from lapa_ray.core.frames import NO_ACTION, RAM_BYTES, GameInfo, StepFrames
from lapa_ray.dataset.colours import ColourSurvey, Indexer
from lapa_ray.dataset.sources import Source
from lapa_ray.dataset.step_tables import KINDS
from lapa_ray.dataset.writer import FrameWriter

NEVER_KNOWN = ("ram", "lives", "sticky_probability", "emulator")
"""What no source tells."""


@dataclass(frozen=True)
class Survey:
    """What a look through all sources found.

    `palette` is the name of the palette that says all pictures exactly, None if they are RGB; `digest` says what the
    pictures and steps are, in whatever files they came; `known` names the columns of the step tables.
    """

    height: int
    width: int
    palette: str | None
    indexer: Indexer | None
    known: tuple[str, ...]
    digest: str


class Surveyor:
    """Looks through sources, one after another."""

    def __init__(self, palettes: Mapping[str, NDArray[np.uint8]], frame_skip: int) -> None:
        """`palettes` uint8 [256, 3] by name, the first that fits is taken; grey is added."""
        self._colours = ColourSurvey(palettes)
        self._frame_skip = frame_skip
        self._first: tuple[str, tuple[int, int]] | None = None
        self._known: tuple[Source, tuple[str, ...]] | None = None
        self._digest = hashlib.blake2b(digest_size=16)

    def add(self, episode_id: int, source: Source) -> None:
        """Look through a source. Raises `LapaError` that names what does not fit, or does not fit the others."""
        known = tuple(name for name in KINDS if name in source.steps)
        self._known = self._known or (source, known)
        if known != self._known[1]:
            raise LapaError(
                f"{source.path}: of its steps {_listed(known)} told, of those of {self._known[0].path} "
                f"{_listed(self._known[1])}; tell the same of all episodes."
            )
        self._digest.update(f"episode {episode_id}".encode())
        num_pictures = 0
        for name, picture in source.pictures():
            self._add_picture(name, as_rgb(picture))
            num_pictures += 1
        _check_length(source, num_pictures, self._frame_skip)
        for name, column in source.steps.items():
            self._digest.update(name.encode() + column.tobytes())

    def finish(self) -> Survey:
        """What was found, of one source or more."""
        assert self._first is not None
        assert self._known is not None
        palette, indexer = next(iter(self._colours.fitting.items()), (None, None))
        height, width = self._first[1]
        return Survey(height, width, palette, indexer, self._known[1], self._digest.hexdigest())

    def _add_picture(self, name: str, rgb: NDArray[np.uint8]) -> None:
        height, width, _ = rgb.shape
        self._first = self._first or (name, (height, width))
        if (height, width) != self._first[1]:
            first, (its_height, its_width) = self._first
            raise LapaError(
                f"{name}: has {height}×{width} pixels, but {first} {its_height}×{its_width}; all must have one size."
            )
        self._colours.add(rgb)
        self._digest.update(rgb.tobytes())


def import_episode(writer: FrameWriter, survey: Survey, episode_id: int, source: Source, frame_skip: int) -> None:
    """Write one episode: its first picture is the reset frame, then come `frame_skip` a step."""
    screens = (_screen(survey, picture) for _, picture in source.pictures())
    writer.begin_episode(episode_id)
    writer.append(NO_ACTION, _frames([next(screens)], NO_ACTION, 0.0), terminated=False, truncated=False)
    step = 0
    while frames := list(islice(screens, frame_skip)):
        told = {name: column[step] for name, column in source.steps.items()}
        executed, reward = int(told.get("executed_action", NO_ACTION)), float(told.get("reward", 0))
        action = int(told.get("action", NO_ACTION))
        writer.append(action, _frames(frames, executed, reward), terminated=False, truncated=False)
        step += 1
    writer.end_episode()


def import_info(survey: Survey, game: str, action_meanings: tuple[str, ...], frame_skip: int) -> GameInfo:
    """What the shards say of the pictures."""
    is_rgb = survey.indexer is None
    return GameInfo(
        game=game,
        palette=np.empty((0, 3), np.uint8) if survey.indexer is None else survey.indexer.palette,
        action_meanings=action_meanings,
        height=survey.height,
        width=survey.width,
        frame_skip=frame_skip,
        sticky_probability=0.0,
        emulator="",
        channels=3 if is_rgb else 1,
        unknown=(*NEVER_KNOWN, *(name for name in KINDS if name not in survey.known)),
    )


def num_actions(sources: Mapping[int, Source]) -> int:
    """One more than the highest action that is told; 0 without any."""
    columns = [column for source in sources.values() for name, column in source.steps.items() if KINDS[name] is np.int8]
    return max((int(column.max()) + 1 for column in columns if len(column)), default=0)


def as_rgb(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB uint8 [H, W, 3] of a grey or RGB picture."""
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)


def _screen(survey: Survey, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rgb = as_rgb(picture)
    if survey.indexer is None:
        return rgb
    indices = survey.indexer(rgb)
    if indices is None:
        raise LapaError("the pictures changed while they were imported; start again.")
    return indices


def _frames(screens: list[NDArray[np.uint8]], executed: int, reward: float) -> StepFrames:
    """The frames of a step; its reward is that of the last one."""
    count = len(screens)
    rewards = np.zeros(count, np.float32)
    rewards[-1] = reward
    return StepFrames(
        screens=np.stack(screens),
        ram=np.broadcast_to(np.uint8(0), (count, RAM_BYTES)),
        executed_actions=np.full(count, executed, np.int8),
        rewards=rewards,
        lives=np.zeros(count, np.int8),
    )


def _check_length(source: Source, num_pictures: int, frame_skip: int) -> None:
    if num_pictures < 2:
        raise LapaError(
            f"{source.path}: holds {num_pictures} picture{'' if num_pictures == 1 else 's'}; "
            "an episode needs at least two, for a step leads from one to the next. Remove it."
        )
    num_steps = -(-(num_pictures - 1) // frame_skip)
    for name, column in source.steps.items():
        if len(column) != num_steps:
            raise LapaError(
                f"{source.path}: has {num_steps} steps ({num_pictures} pictures, the first before the first step, "
                f"{frame_skip} a step), but {name} is told of {len(column)}."
            )


def _listed(names: tuple[str, ...]) -> str:
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'}" if names else "nothing is"


def episodes_left(sources: Mapping[int, Source], done: set[int]) -> Iterator[tuple[int, Source]]:
    """The sources that are not `done` yet, by id."""
    return ((episode_id, sources[episode_id]) for episode_id in sorted(sources.keys() - done))
