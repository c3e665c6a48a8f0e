"""Whether frames are fit for the VQ-VAE to learn from: size, steps, motion; what is not is named in a line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lapa_ray.core.errors import LapaError
from lapa_ray.core.pictures import Composite
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.splits import named_parts
from lapa_ray.models.vqvae import HEIGHT, WIDTH
from lapa_ray.stages.vqvae_config import TrainVqvaeConfig

MOTION_PICTURES = 32
"""Pictures that are read at once to see whether anything moves."""


def check_data(config: TrainVqvaeConfig) -> tuple[FrameDataset, list[int], list[int]]:
    """The dataset, its training and its held-out episodes. Raises `LapaError` if they are not fit to be learnt from."""
    dataset = FrameDataset.open(config.frames)
    check_size(dataset)
    training, held_out, _ = named_parts(dataset.episode_ids, config.pairs.split, dataset.name)
    check_steps(dataset, training, held_out)
    check_motion(dataset, training, config.pairs.composite)
    return dataset, training, held_out


def check_size(dataset: FrameDataset) -> None:
    """Raise `LapaError` unless there is a step, and the screens are of the size that the network takes."""
    if not dataset.num_steps_total:
        raise LapaError(f"{dataset.name}: has no step, only first frames of episodes; record longer ones.")
    if (dataset.info.height, dataset.info.width) != (HEIGHT, WIDTH):
        raise LapaError(
            f"{dataset.name}: screens of {dataset.info.height}×{dataset.info.width}; the VQ-VAE takes {HEIGHT}×{WIDTH}."
        )


def check_steps(dataset: FrameDataset, *parts: list[int]) -> None:
    """Raise `LapaError` for a part without a pair: an episode cut at its first frame has none."""
    if not all(any(dataset.num_steps(episode) for episode in part) for part in parts):
        raise LapaError(f"{dataset.name}: every episode of a split ends at its first frame; record longer ones.")


def check_motion(dataset: FrameDataset, episode_ids: Sequence[int], composite: Composite) -> None:
    """Raise `LapaError` if nothing moves in any of the episodes: there is no action to be learnt from still pairs.

    Reads no further than the first pair that moves.
    """
    decoder = dataset.decoder(composite)
    for episode_id in episode_ids:
        count, first = dataset.num_steps(episode_id) + 1, np.empty((1, *dataset.info.screen_shape), np.uint8)
        decoder.decode(episode_id, 0, first)
        for start in range(1, count, MOTION_PICTURES):
            pictures = np.empty((min(MOTION_PICTURES, count - start), *first.shape[1:]), np.uint8)
            decoder.decode(episode_id, start, pictures)
            if (pictures != first).any():
                return
    raise LapaError(
        f"{dataset.name}: every pair of the training episodes is still, so there is nothing to learn codes of; record "
        "play in which something moves."
    )
