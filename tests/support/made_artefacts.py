"""Frames and codes of the counter environment, made without Ray and without the emulator."""

from pathlib import Path

import numpy as np

from lapa_ray.core.artefact import Artefact, Draft
from lapa_ray.core.config import StageConfig
from lapa_ray.core.frames import NO_ACTION
from lapa_ray.dataset.codes import CodeEpisode, CodeInfo, write_codes
from lapa_ray.dataset.pairs import PairStore
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.summary import frame_figures
from lapa_ray.dataset.writer import FrameWriter
from tests.support.counter_env import NUM_ACTIONS, CounterEnv, read

SIZE = 256


def counter_frames(out: Path, lengths: dict[int, int], seed: int = 0) -> Artefact:
    """Episodes of the counter environment: id → number of steps; the tag of an episode is its id, actions random."""
    draft = Draft.begin(StageConfig(out=out, seed=seed), "frames")
    generator = np.random.default_rng(seed)
    with FrameWriter(out, CounterEnv().info, "frames", "random") as writer:
        for episode_id, length in lengths.items():
            env = CounterEnv(length)
            step = env.reset(episode_id)
            writer.begin_episode(episode_id)
            writer.append(NO_ACTION, step.frames, terminated=False, truncated=False)
            while not step.terminated:
                action = int(generator.integers(NUM_ACTIONS))
                step = env.step(action)
                writer.append(action, step.frames, step.terminated, step.truncated)
            writer.end_episode()
    return draft.finish(frame_figures(out))


def made_vqvae(out: Path, frames: Artefact) -> Artefact:
    """A vqvae artefact by name alone: a parent for made codes."""
    draft = Draft.begin(StageConfig(out=out), "vqvae", {"frames": frames})
    return draft.finish({"codebook_size": SIZE})


def code_info(frames: FrameDataset, vqvae: Artefact) -> CodeInfo:
    return CodeInfo(
        frames.info.game, frames.info.action_meanings, SIZE, (7, 5), "max4", vqvae.identity, frames.artefact.identity
    )


def counter_codes(out: Path, frames_path: Path, vqvae: Artefact) -> Artefact:
    """Codes that spell their pair: token 0 the tag, 1 the step of c_t, 2 that of c_t+1, 3 the action that led there."""
    frames = FrameDataset.open(frames_path)
    draft = Draft.begin(StageConfig(out=out), "codes", {"frames": frames.artefact, "vqvae": vqvae})
    num_steps = 0
    for episode_id in frames.episode_ids:
        store = PairStore([frames.composites(episode_id)])
        before, after = store.batch(np.arange(len(store)))
        codes = np.zeros((len(store), 35), np.int16)
        for row, c_t, c_t1 in zip(codes, before, after, strict=True):
            tag, step, action = read(c_t1)
            row[:4] = tag, read(c_t)[1], step, action
        table = frames.steps(episode_id)
        episode = CodeEpisode(
            codes, table.actions, table.executed_actions, table.rewards, table.terminated, table.truncated
        )
        write_codes(out, code_info(frames, vqvae), episode_id, episode)
        num_steps += len(codes)
    return draft.finish(
        {
            "num_episodes": len(frames.episode_ids),
            "num_steps": num_steps,
            "codebook_size": SIZE,
            "num_actions": NUM_ACTIONS,
        }
    )
