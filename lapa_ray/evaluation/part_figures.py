"""Part figures: the VQ-VAE on the parts of the split that it was trained or chosen on, beside the same baselines.

How far these lie above the held-out figures says how much was learnt by heart. An evenly spaced sample of pairs of each
part is measured; only their pictures are decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from lapa_ray.dataset.codes import CodeDataset
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.evaluation.figures import FigureGroup
from lapa_ray.evaluation.measurement import Sampling
from lapa_ray.evaluation.reconstruction import Decoder, ReconstructionMeter, batches
from lapa_ray.evaluation.rollouts import spread

NAME, TITLE = "reconstruction_parts", "Reconstruction by part of the split (VQ-VAE)"


class PartMeter:
    """Pixel figures on `parts` of the episodes, by name; every part has its own meter."""

    def __init__(
        self,
        frames: FrameDataset,
        codes: CodeDataset,
        decode: Decoder,
        parts: Mapping[str, list[int]],
        sampling: Sampling,
        median_frame: NDArray[np.uint8],
    ) -> None:
        """`parts`: name to episodes; `median_frame` uint8 [H, W, 3], the baseline."""
        self._frames, self._codes, self._sampling = frames, codes, sampling
        self._decoder = frames.decoder(sampling.composite)
        self._steps, self._ssim, self._meters = {}, {}, {}
        for name, episodes in parts.items():
            chosen = spread({episode: frames.num_steps(episode) for episode in episodes}, sampling.num_part_pairs)
            with_ssim = spread({episode: len(steps) for episode, steps in chosen.items()}, sampling.num_ssim_pairs)
            self._steps[name], self._ssim[name] = chosen, with_ssim
            self._meters[name] = ReconstructionMeter(decode, sampling.palette, median_frame)

    @property
    def num_samples(self) -> int:
        """Pairs to be measured."""
        return sum(len(steps) for part in self._steps.values() for steps in part.values())

    def run(self) -> Iterator[int]:
        """Measure; yields how many pairs were done, of each batch."""
        for name, chosen in self._steps.items():
            for episode_id, steps in chosen.items():
                yield from self._measure(name, episode_id, steps)

    def group(self, seed: int) -> FigureGroup:
        """Every pixel figure of every part."""
        figures = [
            figure
            for name, meter in self._meters.items()
            for figure in meter.figures(seed, f"Measured on {self._count(self._ssim[name]):,} of them.", part=name)
        ]
        told = [f"{self._count(chosen):,} of the {name} part" for name, chosen in self._steps.items()]
        data = (
            f"Evenly spaced pairs: {' and '.join(told)}. The VQ-VAE learnt from its train part, and where there is a "
            "test part its best checkpoint was chosen on the validation part."
        )
        return FigureGroup(name=NAME, title=TITLE, data=data, figures=tuple(figures))

    def _measure(self, name: str, episode_id: int, steps: NDArray[np.int64]) -> Iterator[int]:
        with_ssim = np.zeros(len(steps), dtype=np.bool_)
        with_ssim[self._ssim[name][episode_id]] = True
        codes = self._codes.episode(episode_id).codes if len(steps) else None
        for items in batches(np.arange(len(steps)), self._sampling.batch_size):
            assert codes is not None
            # Of each pair its two pictures lie side by side, so the pairs are at every other place.
            pictures = np.empty((2 * len(items), *self._frames.info.screen_shape), dtype=np.uint8)
            for place, step in enumerate(steps[items].tolist()):
                self._decoder.decode(episode_id, step, pictures[2 * place : 2 * place + 2])
            places = 2 * np.arange(len(items))
            chosen = np.repeat(codes[steps[items]], 2, axis=0)
            self._meters[name].update(episode_id, pictures, chosen, places, places[with_ssim[items]])
            yield len(items)

    @staticmethod
    def _count(chosen: Mapping[int, NDArray[np.int64]]) -> int:
        return sum(len(steps) for steps in chosen.values())
