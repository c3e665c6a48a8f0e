"""What is measured of RGB screens is what is measured of the same pictures as palette indices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lapa_ray.core.artefact import Draft
from lapa_ray.core.config import StageConfig
from lapa_ray.core.frames import NO_ACTION, RAM_BYTES, GameInfo, StepFrames
from lapa_ray.dataset.codes import CodeDataset
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.summary import frame_figures
from lapa_ray.dataset.writer import FrameWriter
from lapa_ray.envs.palette import ntsc_palette
from lapa_ray.evaluation.measurement import Measurement, Models, Sampling
from tests.support.made_artefacts import SIZE, counter_codes, made_vqvae
from tests.support.pictures import HEIGHT, WIDTH

NUM_STEPS = 8


def frames(out: Path, *, rgb: bool) -> FrameDataset:
    """Three episodes of pictures in a few colours of the ALE."""
    generator, palette = np.random.default_rng(0), ntsc_palette()
    shown = np.empty((0, 3), np.uint8) if rgb else palette
    names = tuple(f"ACTION{index}" for index in range(5))
    info = GameInfo("Counter", shown, names, HEIGHT, WIDTH, 1, 0.0, "", channels=3 if rgb else 1)
    draft = Draft.begin(StageConfig(out=out), "frames")
    with FrameWriter(out, info, "frames", "random") as writer:
        for episode_id in range(3):
            writer.begin_episode(episode_id)
            screens = np.repeat(generator.integers(0, 128, (NUM_STEPS + 1, HEIGHT // 30, 1)) * 2, 30, axis=1)
            screens = np.repeat(screens, WIDTH, axis=2).astype(np.uint8)
            screens[:, 0, :5] = 0  # where counter codes look for their tag
            for number, screen in enumerate(screens):
                one = np.zeros(1, np.int8)
                step = StepFrames(
                    (palette[screen] if rgb else screen)[None], np.zeros((1, RAM_BYTES), np.uint8), one, one + 0.0, one
                )
                writer.append(0 if number else NO_ACTION, step, terminated=False, truncated=False)
            writer.end_episode()
    draft.finish(frame_figures(out))
    return FrameDataset.open(out)


def decode(codes: Tensor, _frame_t: Tensor) -> Tensor:
    """Pictures [B, 3, H, W] in [−1, 1] that differ by code."""
    level = codes.float().mean(dim=1) / SIZE - 0.5
    return level[:, None, None, None].expand(-1, 3, HEIGHT, WIDTH)


def dynamics(codes: Tensor, actions: Tensor) -> Tensor:
    """Logits [B, 35, SIZE]: each code is followed by the next."""
    return torch.nn.functional.one_hot((codes + 1) % SIZE, SIZE).float()


def measured(folder: Path, codes_of: Path, *, rgb: bool):
    dataset = frames(folder / "frames", rgb=rgb)
    sampling = Sampling(
        composite="max4", codebook_size=SIZE, horizon=3, num_rollouts=6, num_pictured_rollouts=4, num_ssim_pairs=5,
        num_part_pairs=4, batch_size=4, palette=dataset.info.palette, held_out_part="test",
    )  # fmt: skip
    codes = CodeDataset.open(codes_of)
    measurement = Measurement(dataset, codes, Models(decode=decode, dynamics=dynamics), ([0, 1], [2]), sampling)
    list(measurement.run())
    return measurement


def test_the_same_figures_and_pictures(tmp_path):
    indices = frames(tmp_path / "indices" / "frames", rgb=False)
    codes = counter_codes(tmp_path / "codes", indices.artefact.path, made_vqvae(tmp_path / "vqvae", indices.artefact))
    one = measured(tmp_path / "one", codes.path, rgb=False)
    other = measured(tmp_path / "other", codes.path, rgb=True)
    assert one.groups(0) == other.groups(0)
    assert one.curves(0) == other.curves(0)
    psnr = one.groups(0)[0].figures[0]
    assert psnr.estimate.value is not None
    first, second = one.exhibits([], []), other.exhibits([], [])
    for name in vars(first):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
