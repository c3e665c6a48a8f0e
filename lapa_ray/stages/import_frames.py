"""`import-frames`: PNG folders, videos or NumPy files → frames, without a loss; what is not known is said to be so."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt

from lapa_ray.core.artefact import Artefact, Draft
from lapa_ray.core.config import NOT_IDENTITY, PlainStageConfig
from lapa_ray.core.errors import LapaError, StoppedError
from lapa_ray.core.frames import GameInfo
from lapa_ray.core.progress import Progress
from lapa_ray.core.stop import STOPPING, StopRequest, stop_on_signal
from lapa_ray.dataset.imports import Survey, Surveyor, episodes_left, import_episode, import_info, num_actions
from lapa_ray.dataset.shards import read_shards, shard_paths
from lapa_ray.dataset.sources import Source, open_sources
from lapa_ray.dataset.summary import frame_figures
from lapa_ray.dataset.videos import SUFFIXES
from lapa_ray.dataset.writer import FrameWriter
from lapa_ray.envs.palette import ntsc_palette, pal_palette

POLICY = "imported"


class ImportFramesConfig(PlainStageConfig):
    """Imports pictures of episodes."""

    source: Path
    """Folder of episodes, each a folder of 0.png, 1.png, …, a video or a NumPy file; or one of these."""
    game: str = Field("unknown", min_length=1)
    """Name of the game that the pictures show, as in ALE/…-v5."""
    frame_skip: PositiveInt = 1
    """Pictures a step, after the first, which is that of the reset."""
    action_meanings: tuple[str, ...] = ()
    """Names of the actions of the steps.csv files, by index; their numbers if not given."""
    compression_level: Annotated[int, NOT_IDENTITY] = Field(6, ge=1, le=22)
    """Zstandard level of the shards: higher is smaller and slower."""


class _ImportRun(ImportFramesConfig):
    """The config and what it imports: paths are no identity, so the content is."""

    content: str
    """Digest of the pictures and steps."""


CONFIG = ImportFramesConfig


def run(config: ImportFramesConfig) -> Artefact:
    """Look through the sources, then write the frames artefact."""
    sources = open_sources(config.source)
    with stop_on_signal(said=STOPPING) as stop:
        survey = _survey(config, sources, stop)
        info = import_info(survey, config.game, _action_meanings(config, sources), config.frame_skip)
        draft = Draft.begin(_ImportRun(**config.model_dump(), content=survey.digest), "frames")
        _say_if_inexact(survey, sources)
        _import(config, draft, sources, survey, info, stop)
    figures = {"policy": POLICY, "palette": survey.palette or "none: RGB"}
    return draft.finish({**frame_figures(draft.path), **figures})


def _survey(config: ImportFramesConfig, sources: dict[int, Source], stop: StopRequest) -> Survey:
    surveyor = Surveyor({"ntsc": ntsc_palette(), "pal": pal_palette()}, config.frame_skip)
    with Progress("import-frames: look through", len(sources), "episodes") as progress:
        for episode_id, source in sorted(sources.items()):
            surveyor.add(episode_id, source)
            progress.advance()
            if stop:
                raise StoppedError("stopped before anything was written.")
    return surveyor.finish()


def _import(
    config: ImportFramesConfig,
    draft: Draft,
    sources: dict[int, Source],
    survey: Survey,
    info: GameInfo,
    stop: StopRequest,
) -> None:
    shards = shard_paths(draft.path)
    done = set(read_shards(shards)[1]) if shards else set()
    with (
        FrameWriter(draft.path, info, "import", POLICY, config.compression_level) as writer,
        Progress("import-frames: write", len(sources), "episodes", initial=len(done)) as progress,
    ):
        for episode_id, source in episodes_left(sources, done):
            if stop:
                break
            import_episode(writer, survey, episode_id, source, config.frame_skip)
            progress.advance()
            done.add(episode_id)
    if len(done) < len(sources):
        draft.pause()
        raise StoppedError(f"stopped with {len(done)} of {len(sources)} episodes; continue with --resume.")


def _action_meanings(config: ImportFramesConfig, sources: dict[int, Source]) -> tuple[str, ...]:
    count = num_actions(sources)
    if not config.action_meanings:
        return tuple(map(str, range(count)))
    if len(config.action_meanings) < count:
        raise LapaError(
            f"--action_meanings: names {len(config.action_meanings)} actions, but the steps use action {count - 1}."
        )
    return config.action_meanings


def _say_if_inexact(survey: Survey, sources: dict[int, Source]) -> None:
    is_video = any(source.path.suffix.lower() in SUFFIXES for source in sources.values())
    if survey.palette is None:
        lost = " Video usually loses detail; what was decoded is stored." if is_video else ""
        print(f"import-frames: no palette says these colours exactly; stored as RGB.{lost}", file=sys.stderr)
