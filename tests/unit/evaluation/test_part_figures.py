"""Figures of the parts of a split are those of the same pairs measured directly."""

from __future__ import annotations

import numpy as np
import pytest
from torch import Tensor

from lapa_ray.dataset.codes import CodeDataset
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.evaluation.measurement import Sampling
from lapa_ray.evaluation.part_figures import PartMeter
from lapa_ray.evaluation.reconstruction import ReconstructionMeter
from tests.support.made_artefacts import SIZE, counter_codes, counter_frames, made_vqvae

LENGTHS = {0: 7, 1: 12, 2: 5, 3: 9}


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> tuple[FrameDataset, CodeDataset]:
    folder = tmp_path_factory.mktemp("parts")
    artefact = counter_frames(folder / "frames", LENGTHS)
    codes = counter_codes(folder / "codes", artefact.path, made_vqvae(folder / "vqvae", artefact))
    return FrameDataset.open(artefact.path), CodeDataset.open(codes.path)


def decode(codes: Tensor, frame_t: Tensor) -> Tensor:
    """The frame before, a little lighter by the number of the step that the codes tell."""
    return frame_t + codes[:, 2, None, None, None] / 127.5


def meter_of(chain, parts: dict[str, list[int]], num_part_pairs: int, num_ssim_pairs: int = 100) -> PartMeter:
    frames, codes = chain
    sampling = Sampling(
        composite="max4", codebook_size=SIZE, horizon=3, num_rollouts=6, num_pictured_rollouts=4,
        num_ssim_pairs=num_ssim_pairs, num_part_pairs=num_part_pairs, batch_size=4, palette=frames.info.palette,
        held_out_part="test",
    )  # fmt: skip
    median = np.zeros((*frames.info.screen_shape, 3), np.uint8)
    meter = PartMeter(frames, codes, decode, parts, sampling, median)
    assert sum(meter.run()) == meter.num_samples
    return meter


def direct(chain, chosen: dict[int, np.ndarray]) -> tuple:
    frames, codes = chain
    meter = ReconstructionMeter(decode, frames.info.palette, np.zeros((*frames.info.screen_shape, 3), np.uint8))
    for episode, steps in chosen.items():
        meter.update(episode, frames.composites(episode), codes.episode(episode).codes, steps, steps)
    return meter.figures(0, "")


def values(figures) -> list:
    return [(f.estimate.value, *(b.value for b in f.baselines.values())) for f in figures]


def test_all_pairs_of_both_parts(chain):
    group = meter_of(chain, {"train": [0, 1], "validation": [3]}, 100).group(0)
    names = [figure.name for figure in group.figures]
    assert names[0] == "reconstruction_train_psnr_db"
    assert len(set(names)) == len(names) == 16
    for number, episodes in enumerate(([0, 1], [3])):
        expected = direct(chain, {episode: np.arange(LENGTHS[episode]) for episode in episodes})
        ours = group.figures[number * len(expected) : (number + 1) * len(expected)]
        for found, wanted in zip(values(ours), values(expected), strict=True):
            assert found == pytest.approx(wanted)
    assert "19 of the train part and 9 of the validation part" in group.data


def test_a_sample_is_spread_evenly_and_ssim_over_it(chain):
    group = meter_of(chain, {"train": [0, 1]}, 4, num_ssim_pairs=2).group(0)
    chosen = {0: np.array([0, 6]), 1: np.array([5, 11])}
    figures = {figure.label: figure for figure in group.figures}
    expected = {figure.label: figure for figure in direct(chain, chosen)}
    psnr = figures["PSNR, train part"]
    assert psnr.estimate.value == pytest.approx(expected["PSNR"].estimate.value)
    assert figures["SSIM, train part"].estimate.num_samples == 2
    assert "Measured on 2 of them" in figures["SSIM, train part"].note
