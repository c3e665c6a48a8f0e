"""Small real artefacts made without Ray: random play on the real emulator, tiny models trained briefly."""

from pathlib import Path

import numpy as np

from lapa_ray.core.artefact import Artefact, Draft
from lapa_ray.core.config import StageConfig
from lapa_ray.core.frames import NO_ACTION
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.summary import frame_figures
from lapa_ray.dataset.writer import FrameWriter
from lapa_ray.envs.atari_env import AtariEnv, AtariEnvConfig

TINY_VQVAE = ["--model.width=2", "--model.code_dim=4", "--model.quantizer.codebook_size=8"]
BRIEF = ["--training.num_epochs=1", "--resources.num_workers=0", "--wandb.mode=disabled"]


def write_frames(out: Path, num_episodes: int = 3, max_frames: int = 120, seed: int = 0) -> Artefact:
    """A frames artefact of random play; each episode is truncated after `max_frames` emulator frames."""
    draft = Draft.begin(StageConfig(out=out, seed=seed), "frames")
    env = AtariEnv(AtariEnvConfig(max_frames=max_frames))
    generator = np.random.default_rng(seed)
    with FrameWriter(out, env.info, "frames", "random") as writer:
        for episode_id in range(num_episodes):
            write_episode(writer, env, episode_id, generator)
    return draft.finish(frame_figures(out))


def write_episode(writer: FrameWriter, env: AtariEnv, episode_id: int, generator: np.random.Generator) -> None:
    step = env.reset(seed=episode_id)
    writer.begin_episode(episode_id)
    writer.append(NO_ACTION, step.frames, terminated=False, truncated=False)
    while not (step.terminated or step.truncated):
        action = int(generator.integers(env.num_actions))
        step = env.step(action)
        writer.append(action, step.frames, step.terminated, step.truncated)
    writer.end_episode()


def write_codes(frames: Path, vqvae: Path, out: Path) -> Artefact:
    """A codes artefact, by the stage's own encoder in this process instead of Ray Data's actors."""
    from lapa_ray.core.artefact import open_artefact
    from lapa_ray.stages import extract

    dataset, model = FrameDataset.open(frames), open_artefact(vqvae, "vqvae")
    config = extract.ExtractConfig(frames=frames, vqvae=vqvae, out=out)
    draft = Draft.begin(config, "codes", {"frames": dataset.artefact, "vqvae": model})
    encoder = extract.EpisodeEncoder(frames, vqvae, out, "cpu")
    for episode_id in dataset.episode_ids:
        encoder.encode(episode_id)
    return draft.finish(extract._figures(dataset, model, out))
