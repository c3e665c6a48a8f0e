"""Sample sheets: a few held-out pairs, chosen by how much moves in them, as a row of pictures each.

The pairs are the same at every drawing, so sheets of early and late in a training can be laid side by side.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lapa_ray.core.pictures import Composite, Screen, changed
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.evaluation.exhibits import choose_pairs
from lapa_ray.evaluation.images import Rgb, contact_sheet, error_heat
from lapa_ray.evaluation.pixels import to_8bit
from lapa_ray.evaluation.reconstruction import hwc
from lapa_ray.models.colour import PaletteRgb
from lapa_ray.models.vqvae import Vqvae


class SampleSheet:
    """Pairs of a split, ready to be drawn."""

    def __init__(self, dataset: FrameDataset, episode_ids: Sequence[int], composite: Composite) -> None:
        """Reads all of `episode_ids` once, to choose; holds the chosen pairs alone."""
        counts = {e: _changed_pixels(dataset, dataset.composites(e, composite)) for e in episode_ids}
        self._pairs: list[Screen] = []
        for episode_id, step in choose_pairs(counts).values():
            self._pairs.append(np.empty((2, *dataset.info.screen_shape), dtype=np.uint8))
            dataset.decoder(composite).decode(episode_id, step, self._pairs[-1])

    @torch.inference_mode()
    def draw(self, model: Vqvae, palette: PaletteRgb) -> Rgb:
        """Frame t, frame t+1, its reconstruction and the error, of each pair, as the model sees colours.

        `palette` is on the model's device, and of its `colour`; the model is in eval mode.
        """
        rows = []
        for pair in self._pairs:  # one at a time, so that a row does not depend on the others
            screens = torch.from_numpy(pair).to(palette.table.device)
            frame_t, frame_t1 = palette(screens).expand(-1, 3, -1, -1).unsqueeze(1)
            rebuilt = model.decode(model.encode_pair(frame_t, frame_t1), frame_t)
            shown = to_8bit(torch.cat([frame_t, frame_t1, rebuilt])).cpu()
            before, after, reconstructed = hwc(shown)
            rows.append([before, after, reconstructed, error_heat(reconstructed, after)])
        return contact_sheet(rows)


def _changed_pixels(dataset: FrameDataset, composites: Screen) -> NDArray[np.int64]:
    """Changed pixels int64 [T] of each pair of an episode."""
    pairs = itertools.pairwise(composites)  # one at a time: all at once would take the memory twice
    palette = dataset.info.palette
    return np.array([np.count_nonzero(changed(before, after, palette)) for before, after in pairs], dtype=np.int64)
