"""Real play for the dataset benchmark: recorded by the project's own code, and the same frames in other forms."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from lapa_ray.core.artefact import Draft
from lapa_ray.core.config import StageConfig
from lapa_ray.core.frames import NO_ACTION, GameInfo, StepFrames
from lapa_ray.core.pictures import to_rgb
from lapa_ray.core.seeds import generator_for, seed_for
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.summary import frame_figures
from lapa_ray.dataset.writer import FrameWriter
from lapa_ray.envs.atari_env import AtariEnv, AtariEnvConfig
from lapa_ray.stages.record import RecordResources

BEST_COMPRESSION = [cv2.IMWRITE_PNG_COMPRESSION, 9, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
"""The smallest that OpenCV makes of these flat pictures: with its own choice of filters they take a third more."""


class WrittenStep(NamedTuple):
    """The arguments of `FrameWriter.append`."""

    action: int
    frames: StepFrames
    terminated: bool
    truncated: bool


def record(folder: Path, num_episodes: int) -> FrameDataset:
    """Random play, every emulator frame: what `record --agent random` writes, in this process."""
    env = AtariEnv(AtariEnvConfig())
    with _writer(folder, env.info) as writer:
        for episode_id in range(num_episodes):
            _write(writer, episode_id, _play(env, episode_id))
    return FrameDataset.open(folder)


def last_frames(dataset: FrameDataset, folder: Path) -> FrameDataset:
    """The same steps, with the last frame of each alone."""
    with _writer(folder, replace(dataset.info, frame_skip=1)) as writer:
        for episode_id in dataset.episode_ids:
            _write(writer, episode_id, (_last_frame(step) for step in steps_of(dataset, episode_id)))
    return FrameDataset.open(folder)


def repeated(dataset: FrameDataset, folder: Path, num_frames: int) -> FrameDataset:
    """The same episodes again and again under new ids, until there are `num_frames`."""
    written, copies = 0, 0
    with _writer(folder, dataset.info) as writer:
        while written < num_frames:
            episode_id = dataset.episode_ids[copies % len(dataset)]
            _write(writer, copies, steps_of(dataset, episode_id))
            written += dataset.rows(episode_id).num_frames
            copies += 1
    return FrameDataset.open(folder)


def steps_of(dataset: FrameDataset, episode_id: int) -> Iterator[WrittenStep]:
    """An episode as it was written, the reset first."""
    rows, screens, ram = dataset.rows(episode_id), dataset.screens(episode_id), dataset.rows(episode_id).ram()
    assert ram is not None
    columns, start = rows.columns, 0
    for end in (rows.picture_ends + 1).tolist():
        part, last = slice(start, end), end - 1
        frames = StepFrames(
            screens[part],
            ram[part],
            columns["executed_action"][part],
            columns["reward"][part],
            columns["lives"][part],
        )
        yield WrittenStep(
            int(columns["action"][last]), frames, bool(columns["terminated"][last]), bool(columns["truncated"][last])
        )
        start = end


def write_pngs(dataset: FrameDataset, folder: Path) -> float:
    """Every emulator frame as the smallest RGB PNG that OpenCV makes, `EPISODE/FRAME.png`. Returns bytes a frame."""
    with ThreadPoolExecutor() as executor:
        for episode_id in dataset.episode_ids:
            (folder / str(episode_id)).mkdir(parents=True)
            rgb = (to_rgb(screen, dataset.info.palette) for screen in dataset.screens(episode_id))
            paths = (png_path(folder, episode_id, number) for number in range(dataset.rows(episode_id).num_frames))
            list(executor.map(_write_png, paths, rgb))
    sizes = [path.stat().st_size for path in folder.rglob("*.png")]
    return float(np.mean(sizes))


def png_path(folder: Path, episode_id: int, frame: int) -> Path:
    """Where a frame lies."""
    return folder / str(episode_id) / f"{frame}.png"


def _write_png(path: Path, rgb: np.ndarray) -> None:
    cv2.imwrite(str(path), rgb[..., ::-1], BEST_COMPRESSION)


def _play(env: AtariEnv, episode_id: int) -> Iterator[WrittenStep]:
    generator = generator_for(0, "policy", episode_id)
    step = env.reset(seed_for(0, "episode", episode_id))
    yield WrittenStep(NO_ACTION, step.frames, terminated=False, truncated=False)
    while not step.is_last:
        action = int(generator.integers(env.num_actions))
        step = env.step(action)
        yield WrittenStep(action, step.frames, step.terminated, step.truncated)


def _last_frame(step: WrittenStep) -> WrittenStep:
    frames = step.frames
    last = StepFrames(
        frames.screens[-1:], frames.ram[-1:], frames.executed_actions[-1:], frames.rewards[-1:], frames.lives[-1:]
    )
    return step._replace(frames=last)


def _write(writer: FrameWriter, episode_id: int, steps: Iterator[WrittenStep]) -> None:
    writer.begin_episode(episode_id)
    for step in steps:
        writer.append(*step)
    writer.end_episode()


@contextmanager
def _writer(folder: Path, info: GameInfo) -> Iterator[FrameWriter]:
    """A writer as `record` has it, into an artefact that is whole in the end."""
    draft = Draft.begin(StageConfig(out=folder), "frames")
    with FrameWriter(folder, info, "bench", "random", RecordResources().compression_level) as writer:
        yield writer
    draft.finish(frame_figures(folder))
