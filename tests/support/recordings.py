"""Small frame datasets, really written by the writer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.artefact import Draft
from lapa_ray.core.config import StageConfig
from lapa_ray.core.frames import NO_ACTION, StepFrames
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.shards import read_shards, shard_paths
from lapa_ray.dataset.summary import frame_figures
from lapa_ray.dataset.writer import FrameWriter
from lapa_ray.envs.environment import Step
from tests.support.counter_env import NUM_ACTIONS, CounterEnv


@dataclass(frozen=True)
class Recording:
    """An episode as it was played; `steps[0]` is the reset."""

    steps: list[Step]
    actions: list[int]


def record_counter(
    folder: Path,
    lengths: list[int],
    last_frames: int = 4,
    *,
    rows_per_shard: int = 1000,
    truncates: bool = False,
    height: int = 4,
) -> dict[int, Recording]:
    """Play and write counter episodes of `lengths`; their last step has only `last_frames` frames."""
    recordings = {}
    env = CounterEnv(height=height, truncates=truncates)
    with FrameWriter(folder, env.info, "shard", "counter", rows_per_shard=rows_per_shard) as writer:
        for episode_id, length in enumerate(lengths):
            env.length = length
            recording = play(env, episode_id, last_frames)
            writer.begin_episode(episode_id)
            for action, step in zip([NO_ACTION, *recording.actions], recording.steps, strict=True):
                writer.append(action, step.frames, step.terminated, step.truncated)
            writer.end_episode()
            recordings[episode_id] = recording
    return recordings


def play(env: CounterEnv, episode_id: int, last_frames: int) -> Recording:
    """One episode with actions drawn from its id."""
    generator = np.random.default_rng(episode_id)
    steps, actions = [env.reset(episode_id)], []
    while not steps[-1].is_last:
        actions.append(int(generator.integers(NUM_ACTIONS)))
        steps.append(env.step(actions[-1]))
    steps[-1] = replace(steps[-1], frames=_cut(steps[-1].frames, last_frames))
    return Recording(steps, actions)


def open_folder(folder: Path) -> FrameDataset:
    """The shards of a folder as a dataset, without a manifest."""
    info, episodes = read_shards(shard_paths(folder))
    return FrameDataset(None, info, episodes)  # type: ignore[arg-type]


def frames_artefact(path: Path, lengths: list[int], *, height: int = 210, seed: int = 0) -> FrameDataset:
    """A whole frames artefact of counter episodes."""
    draft = Draft.begin(StageConfig(out=path, seed=seed), "frames")
    record_counter(path, lengths, height=height)
    draft.finish(frame_figures(path))
    return FrameDataset.open(path)


def write_play(
    folder: Path,
    episodes: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
    game: str = "MsPacman",
    unknown: tuple[str, ...] = (),
    palette: NDArray[np.uint8] | None = None,
) -> FrameDataset:
    """A whole frames artefact of made play, a frame a step: RAM [T+1, 128] and screens [T+1, height, width] of each."""
    height, width = episodes[0][1].shape[1:]
    info = replace(CounterEnv().info, game=game, height=height, width=width, frame_skip=1, unknown=unknown)
    info = info if palette is None else replace(info, palette=palette)
    draft = Draft.begin(StageConfig(out=folder), "frames")
    with FrameWriter(folder, info, "made", "nobody") as writer:
        for episode_id, (ram, screens) in enumerate(episodes):
            writer.begin_episode(episode_id)
            for step in range(len(ram)):
                one, none = slice(step, step + 1), np.zeros(1, np.int8)
                frames = StepFrames(screens[one], ram[one], none, none.astype(np.float32), none)
                writer.append(NO_ACTION if step == 0 else 0, frames, terminated=False, truncated=step == len(ram) - 1)
            writer.end_episode()
    draft.finish(frame_figures(folder))
    return FrameDataset.open(folder)


def _cut(frames: StepFrames, count: int) -> StepFrames:
    """The last `count` frames, so that the reward, which comes on the last one, is kept."""
    return StepFrames(
        frames.screens[-count:],
        frames.ram[-count:],
        frames.executed_actions[-count:],
        frames.rewards[-count:],
        frames.lives[-count:],
    )
