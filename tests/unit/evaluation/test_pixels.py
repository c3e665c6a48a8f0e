"""Pixel metrics against plain NumPy, picture by picture."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lapa_ray.evaluation.one_step_control import OneStepControl
from lapa_ray.evaluation.pixels import PixelMetrics, psnr_db, to_8bit


def pictures(seed: int, count: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(seed)
    predicted, true = generator.integers(0, 256, size=(2, count, 3, 21, 16), dtype=np.uint8)
    changed = generator.random((count, 21, 16)) < 0.1
    return torch.from_numpy(predicted), torch.from_numpy(true), torch.from_numpy(changed)


def plain_psnr(predicted: np.ndarray, true: np.ndarray) -> float:
    errors = [(float(a) - float(b)) ** 2 for a, b in zip(predicted.ravel(), true.ravel(), strict=True)]
    return 10 * math.log10(255**2 / (sum(errors) / len(errors)))


def test_psnr_pools_the_error_of_all_batches() -> None:
    predicted, true, changed = pictures(0)
    metrics = PixelMetrics()
    metrics.update(predicted[:2], true[:2], changed[:2])
    metrics.update(predicted[2:], true[2:], changed[2:])
    assert metrics.psnr().value == pytest.approx(plain_psnr(predicted.numpy(), true.numpy()), rel=1e-12)


def test_pooled_psnr_is_not_a_mean_of_decibels() -> None:
    true = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    predicted = true.clone()
    predicted[0] += 1
    predicted[1] += 100
    metrics = PixelMetrics()
    metrics.update(predicted, true, torch.ones(2, 4, 4, dtype=torch.bool))
    assert metrics.psnr().value == pytest.approx(10 * math.log10(255**2 / ((1 + 100**2) / 2)))


def test_changed_psnr_sees_the_changed_pixels_alone() -> None:
    predicted, true, changed = pictures(1)
    metrics = PixelMetrics()
    metrics.update(predicted, true, changed)
    mask = np.broadcast_to(changed.numpy()[:, None], predicted.shape)
    expected = plain_psnr(predicted.numpy()[mask], true.numpy()[mask])
    assert metrics.changed_psnr().value == pytest.approx(expected, rel=1e-12)
    assert metrics.changed_psnr().num_samples == 3 * int(changed.sum())


def test_l1_is_the_mean_absolute_error_in_levels() -> None:
    predicted, true, changed = pictures(2)
    metrics = PixelMetrics()
    metrics.update(predicted, true, changed)
    expected = np.abs(predicted.numpy().astype(int) - true.numpy().astype(int)).mean()
    assert metrics.l1().value == pytest.approx(expected)


def gaussian_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """SSIM of one channel by its definition (Wang et al. 2004), 11×11 Gaussian window, σ 1.5, reflected border."""
    axis = np.arange(-5, 6)
    kernel = np.exp(-(axis**2) / (2 * 1.5**2))
    window = np.outer(kernel, kernel) / kernel.sum() ** 2

    def smooth(values: np.ndarray) -> np.ndarray:
        padded = np.pad(values, 5, mode="reflect")
        views = np.lib.stride_tricks.sliding_window_view(padded, (11, 11))
        return np.einsum("ijkl,kl->ij", views, window)

    mean_1, mean_2 = smooth(first), smooth(second)
    var_1, var_2 = smooth(first**2) - mean_1**2, smooth(second**2) - mean_2**2
    covariance = smooth(first * second) - mean_1 * mean_2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    numerator = (2 * mean_1 * mean_2 + c1) * (2 * covariance + c2)
    similarity = numerator / ((mean_1**2 + mean_2**2 + c1) * (var_1 + var_2 + c2))
    return float(similarity.mean())


def test_ssim_follows_its_definition_and_only_counts_what_it_is_asked_to() -> None:
    generator = np.random.default_rng(3)
    true = generator.integers(0, 256, size=(2, 3, 40, 32), dtype=np.uint8)
    noise = generator.integers(-30, 31, size=true.shape)
    predicted = np.clip(true + noise, 0, 255).astype(np.uint8)
    metrics = PixelMetrics()
    changed = torch.zeros(2, 40, 32, dtype=torch.bool)
    metrics.update(torch.from_numpy(predicted[:1]), torch.from_numpy(true[:1]), changed[:1], with_ssim=True)
    metrics.update(torch.from_numpy(predicted[1:]), torch.from_numpy(true[1:]), changed[1:])
    channels = [gaussian_ssim(predicted[0, c].astype(float), true[0, c].astype(float)) for c in range(3)]
    assert metrics.ssim().value == pytest.approx(float(np.mean(channels)), abs=1e-5)
    assert metrics.ssim().num_samples == 1


def test_what_cannot_be_said_is_none() -> None:
    metrics = PixelMetrics()
    assert metrics.psnr().value is None
    same = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    metrics.update(same, same, torch.zeros(1, 4, 4, dtype=torch.bool))
    assert metrics.psnr().value is None
    assert metrics.changed_psnr().value is None
    assert metrics.l1().value == 0.0
    assert math.isinf(psnr_db(np.array([0.0]))[0])


def test_to_8bit_inverts_the_networks_scale_for_every_level() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_8bit(levels.float() / 127.5 - 1), levels)
    assert to_8bit(torch.tensor([-2.0, 2.0])).tolist() == [0, 255]


def test_sums_of_many_large_errors_are_exact() -> None:
    true = torch.zeros(64, 3, 210, 160, dtype=torch.uint8)
    predicted = torch.full_like(true, 255)
    predicted[:, 1] = 254
    metrics = PixelMetrics()
    metrics.update(predicted, true, torch.ones(64, 210, 160, dtype=torch.bool))
    expected = 10 * math.log10(255**2 / ((2 * 255**2 + 254**2) / 3))
    assert metrics.psnr().value == pytest.approx(expected, rel=1e-12)
    assert metrics.changed_psnr().value == pytest.approx(expected, rel=1e-12)
    assert metrics.l1().value == pytest.approx((255 * 2 + 254) / 3, rel=1e-12)


class WithoutDoubles(torch.Tensor):
    """Like a tensor on MPS: float64 is only to be had on the CPU."""

    def double(self, *_args: object) -> torch.Tensor:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    def cpu(self, *_args: object) -> torch.Tensor:
        return self.as_subclass(torch.Tensor)


def test_a_device_that_knows_no_float64_measures_the_same() -> None:
    predicted, true, changed = pictures(5)
    plain, other = PixelMetrics(), PixelMetrics()
    plain.update(predicted, true, changed, with_ssim=True)
    other.update(*(part.as_subclass(WithoutDoubles) for part in (predicted, true, changed)), with_ssim=True)
    assert other.ssim() == plain.ssim()
    assert other.changed_ssim() == plain.changed_ssim()
    found = []
    for kind in (torch.Tensor, WithoutDoubles):
        control = OneStepControl(lambda codes, frames: frames)
        frame_t = true.float().as_subclass(kind) / 127.5 - 1
        codes = torch.zeros(len(true), 1, dtype=torch.int64)
        control.update(codes, frame_t, *(part.as_subclass(kind) for part in (predicted, true, changed)))
        found.append(control.figures())
    assert found[0] == pytest.approx(found[1], nan_ok=True)
