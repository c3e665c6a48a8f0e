"""Pixel metrics: predicted and true pictures → PSNR, SSIM, L1, L2, over all pixels and over those that changed.

Streaming: `update` with a batch, `psnr()` … at the end. Squared error is pooled over everything that was given, in
8-bit RGB; a mean of the decibels of single pictures would flatter a model that is perfect on still ones.
Knows no model and no dataset.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lapa_ray.evaluation.estimates import Array, Estimate, PooledRatio

MAX_VALUE = 255.0


def to_8bit(rgb: Tensor) -> Tensor:
    """RGB in [−1, 1], float [...] → uint8 [...], rounded to the nearest level; what lies outside is clamped."""
    return (rgb.float() + 1).mul_(MAX_VALUE / 2).round_().clamp_(0, MAX_VALUE).to(torch.uint8)


def psnr_db(mean_squared_error: Array) -> Array:
    """Peak signal-to-noise ratio, dB, of a mean squared error on the 8-bit scale; infinite where that is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return 10 * np.log10(MAX_VALUE**2 / np.asarray(mean_squared_error, dtype=np.float64))


def ssim_map(predicted: Tensor, true: Tensor) -> Tensor:
    """Structural similarity at each pixel, float [B, 3, H, W], of pictures uint8 [B, 3, H, W] (Wang et al. 2004).

    torchmetrics': Gaussian window, σ 1.5. A picture's structural similarity is the mean of its pixels.
    """
    # Not above: it brings SciPy's signals and half of torchmetrics, 1.5 s in each worker that starts.
    from torchmetrics.functional.image import structural_similarity_index_measure

    _, similarity = structural_similarity_index_measure(
        predicted.float(), true.float(), data_range=MAX_VALUE, reduction="none", return_full_image=True
    )
    return similarity


class PixelMetrics:
    """How far pictures are from the true ones, by episode."""

    def __init__(self) -> None:
        self._squared, self._absolute, self._ssim = (PooledRatio() for _ in range(3))
        self._changed, self._changed_absolute, self._changed_ssim = (PooledRatio() for _ in range(3))

    def update(
        self, predicted: Tensor, true: Tensor, changed: Tensor, episode_id: int = 0, *, with_ssim: bool = False
    ) -> None:
        """Count pictures uint8 [B, 3, H, W] of one episode; `changed` bool [B, H, W] is where c_t, c_(t+1) differ.

        SSIM costs about a hundred times the rest, so it is only counted `with_ssim`.
        """
        if not len(true):
            return
        ours, truth, mask = _rows(predicted), _rows(true), changed.cpu().numpy().astype(np.uint8)
        mask = mask.reshape(-1, mask.shape[-1])
        num_changed = int(np.count_nonzero(mask))
        self._squared.add(episode_id, _norm(ours, truth, cv2.NORM_L2SQR), truth.size)
        self._absolute.add(episode_id, _norm(ours, truth, cv2.NORM_L1), truth.size)
        self._changed.add(episode_id, _norm(ours, truth, cv2.NORM_L2SQR, mask), 3 * num_changed)
        self._changed_absolute.add(episode_id, _norm(ours, truth, cv2.NORM_L1, mask), 3 * num_changed)
        if with_ssim:
            similarity = ssim_map(predicted, true).mean(dim=1).cpu()  # MPS knows no float64
            self._ssim.add(episode_id, float(similarity.mean(dim=(1, 2)).double().sum()), len(true))
            self._changed_ssim.add(episode_id, float(similarity[changed.cpu()].double().sum()), num_changed)

    def psnr(self, seed: int = 0) -> Estimate:
        """PSNR over all pixels, dB."""
        return self._squared.estimate(psnr_db, seed)

    def changed_psnr(self, seed: int = 0) -> Estimate:
        """PSNR over the pixels that changed from c_t to c_(t+1), dB."""
        return self._changed.estimate(psnr_db, seed)

    def l1(self, seed: int = 0) -> Estimate:
        """Mean absolute error, 8-bit levels."""
        return self._absolute.estimate(seed=seed)

    def changed_l1(self, seed: int = 0) -> Estimate:
        """The same over the pixels that changed."""
        return self._changed_absolute.estimate(seed=seed)

    def l2(self, seed: int = 0) -> Estimate:
        """Root of the mean squared error, 8-bit levels."""
        return self._squared.estimate(np.sqrt, seed)

    def changed_l2(self, seed: int = 0) -> Estimate:
        """The same over the pixels that changed."""
        return self._changed.estimate(np.sqrt, seed)

    def changed_ssim(self, seed: int = 0) -> Estimate:
        """Mean structural similarity at the pixels that changed, of the pictures that were counted with it."""
        return self._changed_ssim.estimate(seed=seed)

    def ssim(self, seed: int = 0) -> Estimate:
        """Mean structural similarity of the pictures that were counted with it, in [−1, 1]."""
        return self._ssim.estimate(seed=seed)


def _rows(pictures: Tensor) -> NDArray[np.uint8]:
    """Pictures uint8 [B, 3, H, W] as one tall one [B·H, W, 3]: what OpenCV takes, whose norms are tenfold faster."""
    tall = pictures.cpu().permute(0, 2, 3, 1).contiguous().numpy()
    return tall.reshape(-1, *tall.shape[2:])


def _norm(ours: NDArray[np.uint8], truth: NDArray[np.uint8], kind: int, mask: NDArray[np.uint8] | None = None) -> int:
    """Sum of absolute or squared differences, exact: OpenCV may take a root and square it again."""
    return round(cv2.norm(ours, truth, kind, mask))
