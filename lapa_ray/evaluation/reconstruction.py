"""Reconstruction: held-out pairs and their codes → pixel figures of the decoder, beside copy-last and the median frame.

Knows the decoder as a function alone. Sees one batch at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lapa_ray.core.pictures import Screen, changed, to_rgb
from lapa_ray.evaluation.estimates import Estimate
from lapa_ray.evaluation.figures import Figure, FigureGroup
from lapa_ray.evaluation.pixels import PixelMetrics, to_8bit

Decoder = Callable[[Tensor, Tensor], Tensor]
"""Codes int64 [B, tokens] and frame t → frame t+1; frames are RGB in [−1, 1], float [B, 3, H, W]. Not every decoder
looks at frame t."""
Codes = NDArray[np.integer]

STILL_NOTE = "Nearly free, as most of the picture stands still: read it beside its baselines only."
Watch = Callable[[NDArray[np.int64], Tensor], None]
"""Hears of each batch: steps of the pairs, and the model's frames t+1, uint8 [B, 3, H, W]."""

CHANGED_NOTE = "On the pixels alone that differ between frame t and frame t+1."
L1_NOTE, L2_NOTE = "Mean absolute error of a channel.", "Root of the mean squared error of a channel."

Measure = Callable[[PixelMetrics, int], Estimate]
MEASURES: tuple[tuple[str, str, str, Measure], ...] = (
    ("psnr_db", "PSNR", "dB", PixelMetrics.psnr),
    ("changed_psnr_db", "PSNR on changed pixels", "dB", PixelMetrics.changed_psnr),
    ("ssim", "SSIM", "", PixelMetrics.ssim),
    ("changed_ssim", "SSIM at changed pixels", "", PixelMetrics.changed_ssim),
    ("l1_levels", "L1 error", "levels", PixelMetrics.l1),
    ("changed_l1_levels", "L1 error on changed pixels", "levels", PixelMetrics.changed_l1),
    ("l2_levels", "L2 error", "levels", PixelMetrics.l2),
    ("changed_l2_levels", "L2 error on changed pixels", "levels", PixelMetrics.changed_l2),
)
"""Name, label, unit and how it is measured of every pixel figure."""


class ReconstructionMeter:
    """Accumulates what the decoder makes of the codes of held-out pairs."""

    def __init__(
        self,
        decode: Decoder,
        palette: NDArray[np.uint8],
        median_frame: NDArray[np.uint8],
        watch: Watch | None = None,
    ) -> None:
        """`median_frame` uint8 [H, W, 3]; `palette` uint8 [256, 3]; `watch` sees what the model makes."""
        self._decode, self._palette, self._watch = decode, palette, watch
        self._median = chw(median_frame[None])
        self.model, self.copy_last, self.median = PixelMetrics(), PixelMetrics(), PixelMetrics()

    def update(
        self,
        episode_id: int,
        composites: Screen,
        codes: Codes,
        steps: NDArray[np.int64],
        ssim_steps: NDArray[np.int64],
    ) -> None:
        """Count the pairs `steps` of one episode: `composites` uint8 [T+1, H, W], `codes` [T, tokens].

        SSIM is counted at those among `ssim_steps` alone, for it costs more than all else together.
        """
        wanted = np.isin(steps, ssim_steps)
        for part, with_ssim in ((steps[wanted], True), (steps[~wanted], False)):
            if len(part):
                self._update_batch(episode_id, composites, codes, part, with_ssim=with_ssim)

    def _update_batch(
        self, episode_id: int, composites: Screen, codes: Codes, steps: NDArray[np.int64], *, with_ssim: bool
    ) -> None:
        before, after = composites[steps], composites[steps + 1]
        moved = torch.from_numpy(changed(before, after, self._palette))
        seen, true = chw(to_rgb(before, self._palette)), chw(to_rgb(after, self._palette))
        made = decode_8bit(self._decode, codes[steps], seen)
        if self._watch is not None:
            self._watch(steps, made)
        predictions = (
            (self.model, made),
            (self.copy_last, seen),
            (self.median, self._median.expand_as(true)),
        )
        for metrics, predicted in predictions:
            metrics.update(predicted, true, moved, episode_id, with_ssim=with_ssim)

    def figures(self, seed: int, ssim_note: str, part: str = "") -> tuple[Figure, ...]:
        """All pixel figures, each beside both baselines; `part` of the split, unless they are held out."""
        notes = {"psnr_db": STILL_NOTE, "l1_levels": L1_NOTE, "l2_levels": L2_NOTE, "ssim": ssim_note}
        return tuple(
            Figure(
                name=f"reconstruction_{part}_{name}" if part else f"reconstruction_{name}",
                label=f"{label}, {part} part" if part else label,
                unit=unit,
                better="lower" if unit == "levels" else "higher",
                estimate=measure(self.model, seed),
                baselines={
                    "copy_last_frame": measure(self.copy_last, seed),
                    "median_frame": measure(self.median, seed),
                },
                note=CHANGED_NOTE if name.startswith("changed_") else notes[name],
            )
            for name, label, unit, measure in MEASURES
        )


def reconstruction_group(meter: ReconstructionMeter, seed: int, ssim_note: str, data: str) -> FigureGroup:
    """The figures of the VQ-VAE's pictures."""
    return FigureGroup(
        name="reconstruction", title="Reconstruction (VQ-VAE)", data=data, figures=meter.figures(seed, ssim_note)
    )


def median_frame(composites: Screen, palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Per-pixel median colour, channel by channel, uint8 [H, W, 3], of `composites` uint8 [N, H, W]."""
    rows = (np.median(to_rgb(composites[:, row], palette), axis=0) for row in range(composites.shape[1]))
    return np.stack(list(rows)).round().astype(np.uint8)


def decode_8bit(decode: Decoder, codes: Codes, frame_t: Tensor) -> Tensor:
    """Frame t+1, RGB uint8 [B, 3, H, W] on the CPU, of `codes` [B, tokens] and `frame_t` uint8 [B, 3, H, W]."""
    with torch.inference_mode():
        return to_8bit(decode(torch.from_numpy(codes.astype(np.int64)), frame_t.float() / 127.5 - 1)).cpu()


def chw(rgb: NDArray[np.uint8]) -> Tensor:
    """RGB uint8 [B, H, W, 3] as a tensor [B, 3, H, W]."""
    return torch.from_numpy(rgb).permute(0, 3, 1, 2)


def hwc(rgb: Tensor) -> NDArray[np.uint8]:
    """A tensor [B, 3, H, W] as RGB uint8 [B, H, W, 3]."""
    return np.ascontiguousarray(rgb.permute(0, 2, 3, 1).numpy())


def batches(indices: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """`indices` in pieces of at most `size`."""
    for start in range(0, len(indices), size):
        yield indices[start : start + size]
