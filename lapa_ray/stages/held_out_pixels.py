"""Held-out pixels: the pictures of a validation, batch by batch → PSNR of all, SSIM of some."""

from __future__ import annotations

from torch import Tensor

from lapa_ray.evaluation.pixels import PixelMetrics
from lapa_ray.stages.fit_task import Figures

NUM_SSIM_PAIRS = 512
"""Held-out pairs at most, evenly spaced, whose SSIM is taken at a validation: that of all, at 20 ms a picture, would
take minutes."""


class HeldOutPixels:
    """Pixel figures of the pairs of a split, which come in their order; SSIM of some of them."""

    def __init__(self, num_pairs: int) -> None:
        self._all, self._some = PixelMetrics(), PixelMetrics()
        self._stride, self._done = -(-num_pairs // NUM_SSIM_PAIRS), 0

    def update(self, predicted: Tensor, true: Tensor, changed: Tensor) -> None:
        """Count pictures uint8 [B, 3, H, W]; `changed` bool [B, H, W]."""
        chosen = slice(-self._done % self._stride, None, self._stride)
        self._all.update(predicted, true, changed)
        self._some.update(predicted[chosen], true[chosen], changed[chosen], with_ssim=True)
        self._done += len(true)

    def figures(self) -> Figures:
        """psnr_db, changed_psnr_db, ssim; not a number where there was nothing to measure."""
        measured = {
            "psnr_db": self._all.psnr(), "changed_psnr_db": self._all.changed_psnr(), "ssim": self._some.ssim()
        }  # fmt: skip
        return {name: number_of(estimate.value) for name, estimate in measured.items()}


def number_of(value: float | None) -> float:
    return float("nan") if value is None else value
