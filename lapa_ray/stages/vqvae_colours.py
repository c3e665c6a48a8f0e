"""Which colours are the classes of a VQ-VAE with output palette: the commonest of its training frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.errors import LapaError
from lapa_ray.core.pictures import Composite
from lapa_ray.dataset.reader import FrameDataset

COLOUR_EPISODES = 8
"""Training episodes whose pixels are counted."""


def commonest_indices(
    dataset: FrameDataset, episode_ids: Sequence[int], composite: Composite, count: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Palette indices uint8 [≤ count] that most pixels of some episodes have, the commonest first, and their shares.

    The episodes are spread over all, for those recorded first may all be of one player. The shares float32 add up to 1.

    Raises `LapaError` for frames that are RGB themselves.
    """
    if not len(dataset.info.palette):
        raise LapaError(f"{dataset.name}: RGB frames have no palette; take --model.output tanh and --loss.kind mse.")
    counts = np.zeros(256, dtype=np.int64)
    for episode in episode_ids[:: -(-len(episode_ids) // COLOUR_EPISODES)]:
        counts += np.bincount(dataset.composites(episode, composite).ravel(), minlength=256)
    order = np.argsort(-counts, kind="stable")[:count]
    chosen = order[counts[order] > 0]
    return chosen.astype(np.uint8), (counts[chosen] / np.sum(counts[chosen])).astype(np.float32)
