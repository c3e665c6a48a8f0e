"""What is looked at while a VQ-VAE trains: figures, use of the codes and pictures of held-out pairs, always the same.

None of it changes what is learnt. All of it is named by the update, so a resumed training writes it again as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from lapa_ray.core.config import Config
from lapa_ray.core.errors import LapaError
from lapa_ray.core.files import write_json
from lapa_ray.core.metric_log import MetricLog
from lapa_ray.core.pictures import Composite
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.evaluation.codes import CodeStatistics, entropy_bits
from lapa_ray.evaluation.images import write_png
from lapa_ray.evaluation.pixels import PixelMetrics, to_8bit
from lapa_ray.evaluation.rollouts import spread
from lapa_ray.models.colour import PaletteRgb
from lapa_ray.models.vqvae import Vqvae, VqvaeOutput
from lapa_ray.stages.fit_checkpoints import KEPT
from lapa_ray.stages.fit_schedule import is_due
from lapa_ray.stages.pair_sources import Pair
from lapa_ray.stages.sample_sheet import SampleSheet

SAMPLES, HISTOGRAMS = Path("samples"), Path("histograms")
COLLAPSED_PERPLEXITY = 2.0
BATCH = 64

Pictures = Callable[[Pair], tuple[Tensor, Tensor, Tensor]]
"""Pictures t and t+1 as the model sees them, RGB [B, 3, 210, 160], and where they differ, bool [B, 210, 160]."""


class ObservationConfig(Config):
    """What is looked at along the way; the defaults are the source's plan."""

    part_of_identity = False

    num_pairs: PositiveInt = 256
    """Held-out pairs, evenly spaced and the same each time, that figures and histograms are of."""
    figures_period_updates: NonNegativeInt = 1000
    """Updates between rows of PSNR, SSIM, L1 and L2 in the metric log, beside copy-last; 0 never."""
    histogram_period_updates: NonNegativeInt = 5000
    """Updates between counts of each code's use, in histograms/; 0 never."""
    samples_period_updates: NonNegativeInt = 2500
    """Updates between sheets of reconstructions, in samples/; 0 never."""
    num_swaps: NonNegativeInt = 200
    """Code swaps at the end, in swaps.png and as figures, and with them a probe of where codes say that the player is;
    0 neither. Needs RAM."""


class VqvaeObserver:
    """Looks at a model in training; what it looks at is read when it is first needed."""

    def __init__(
        self,
        config: ObservationConfig,
        dataset: FrameDataset,
        held_out: Sequence[int],
        composite: Composite,
        palette: PaletteRgb,
        pictures: Pictures,
    ) -> None:
        self._config, self._dataset, self._held_out, self._composite = config, dataset, held_out, composite
        self._palette, self._pictures = palette, pictures
        self._sheet: SampleSheet | None = None
        self._pairs: Pair | None = None
        self._copy_last = PixelMetrics()

    def __call__(self, model: Vqvae, update: int, log: MetricLog, folder: Path) -> None:
        """Whatever is due after `update`; leaves the model in eval mode where anything was."""
        config = self._config
        wants_figures = is_due(update, config.figures_period_updates)
        wants_histogram = is_due(update, config.histogram_period_updates)
        if wants_figures or wants_histogram:
            pixels, codes = self._measure(model)
            if wants_figures:
                figures = _figures(pixels, self._copy_last, codes)
                log.write(update, {f"sample_{name}": value for name, value in figures.items()})
            if wants_histogram:
                self._keep_histogram(codes, update, log, folder)
        if is_due(update, config.samples_period_updates):
            self._sheet = self._sheet or SampleSheet(self._dataset, self._held_out, self._composite)
            drawn = self._sheet.draw(model.eval(), self._palette)
            write_png(folder / SAMPLES / f"{KEPT.format(update)}.png", drawn)
            log.show(update, {"reconstructions": drawn})

    def _keep_histogram(self, codes: CodeStatistics, update: int, log: MetricLog, folder: Path) -> None:
        counts = codes.counts.sum(axis=0)
        told = {"update": update, "num_pairs": len(self._sample()[0]), "counts": counts.tolist()}
        write_json(folder / HISTOGRAMS / f"{KEPT.format(update)}.json", told)
        log.show(update, counts={"codes": counts})

    def _sample(self) -> Pair:
        """Pictures t and t+1 of the pairs, each uint8 [num_pairs, *screen_shape]."""
        if self._pairs is None:
            steps = spread({e: self._dataset.num_steps(e) for e in self._held_out}, self._config.num_pairs)
            chosen = [(episode, step) for episode, part in steps.items() for step in part.tolist()]
            pairs = np.empty((len(chosen), 2, *self._dataset.info.screen_shape), dtype=np.uint8)
            decoder = self._dataset.decoder(self._composite)
            for out, (episode, step) in zip(pairs, chosen, strict=True):
                decoder.decode(episode, step, out)
            self._pairs = pairs[:, 0], pairs[:, 1]
        return self._pairs

    @torch.inference_mode()
    def _measure(self, model: Vqvae) -> tuple[PixelMetrics, CodeStatistics]:
        model.eval()
        pixels, before, after = PixelMetrics(), *self._sample()
        codes = CodeStatistics(model.config.quantizer.codebook_size, model.config.num_tokens)
        is_first = self._copy_last.psnr().value is None
        for start in range(0, len(before), BATCH):
            frame_t, frame_t1, differ = self._pictures((before[start : start + BATCH], after[start : start + BATCH]))
            output, true = model(frame_t, frame_t1), to_8bit(frame_t1)
            pixels.update(to_8bit(model.picture(output)), true, differ, with_ssim=True)
            if is_first:
                self._copy_last.update(to_8bit(frame_t), true, differ, with_ssim=True)
            codes.update(output.codes.cpu().numpy())
        return pixels, codes


def _figures(pixels: PixelMetrics, copy_last: PixelMetrics, codes: CodeStatistics) -> dict[str, float | int | None]:
    figures: dict[str, float | int | None] = {}
    for whose, metrics in (("", pixels), ("copy_last_", copy_last)):
        figures |= {
            f"{whose}psnr_db": metrics.psnr().value,
            f"{whose}changed_psnr_db": metrics.changed_psnr().value,
            f"{whose}ssim": metrics.ssim().value,
            f"{whose}l1_levels": metrics.l1().value,
            f"{whose}l2_levels": metrics.l2().value,
        }
    use = codes.compute()
    return figures | {"perplexity": use.perplexity, "codes_used": use.codes_used}


class CollapseWatch:
    """Ends a training whose codes, of so many updates together, have had a perplexity of hardly more than one.

    Its `state` belongs in checkpoints: a collapsed training that is tried again would else slip through, period by
    period.
    """

    def __init__(self, codebook_size: int, num_updates: int) -> None:
        """`num_updates` 0 watches nothing."""
        self._num_updates, self._size = num_updates, codebook_size
        self._least = min(COLLAPSED_PERPLEXITY, codebook_size / 2)  # of two codes it is never more than 2
        self._counts: Tensor | None = None
        self._num_counted = 0

    def add(self, output: VqvaeOutput) -> None:
        """Count the codes of a batch, where they are: they are looked at now and then."""
        if self._num_updates:
            # Rounded latents that are no numbers make codes below 0; that the loss is none either is said soon after.
            counts = torch.bincount(output.codes.flatten().clamp(min=0), minlength=self._size)
            self._counts = counts if self._counts is None else self._counts.to(counts.device) + counts

    def state(self) -> dict[str, Any]:
        """What was counted since the last end of a period, the counts where they are; empty if nothing was."""
        return {} if self._counts is None else {"counts": self._counts, "num_counted": self._num_counted}

    def load_state(self, state: dict[str, Any]) -> None:
        """Count on from a `state`, so that a resumed training judges the periods of an unbroken one."""
        if self._num_updates and state:  # a watch that does not count would leave a hole in the period
            self._counts, self._num_counted = state["counts"], state["num_counted"]

    def check(self, update: int) -> None:
        """Raise `LapaError` if the codebook has collapsed; asked after each update, it looks at the ends of periods.

        A period of which a part alone was counted is not judged: one in which a watch began anew, without `load_state`.
        """
        self._num_counted += 1
        if not is_due(update, self._num_updates) or self._counts is None:
            return
        is_whole = self._num_counted == self._num_updates
        counts: NDArray[np.int64] = self._counts.cpu().numpy()
        self._counts, self._num_counted, perplexity = None, 0, float(2 ** entropy_bits(counts))
        if is_whole and perplexity < self._least:
            raise LapaError(
                f"update {update}: the codebook has collapsed: perplexity {perplexity:.2f} over the last "
                f"{self._num_updates} updates. In a new --out, try --model.quantizer.kind ema with its kmeans_init "
                "true and revive_below 2, or a lower --learning_rate; --collapse_period_updates 0 goes on regardless."
            )
