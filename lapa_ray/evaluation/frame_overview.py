"""Frame overview: a frame dataset → lines of text with a histogram of its returns, and a sheet of its pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from lapa_ray.core.pictures import to_rgb
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.evaluation.images import Rgb, contact_sheet

NUM_BINS = 10
BAR_WIDTH = 40
SHEET_ROWS, SHEET_COLUMNS = 6, 8


def overview(dataset: FrameDataset) -> Iterator[str]:
    """Yield lines: what the screens are, how long the episodes, what is unknown, and how the returns are spread."""
    info = dataset.info
    kind = "palette indices" if info.channels == 1 else "RGB"
    yield f"screens: {info.height}×{info.width} {kind}, {info.frame_skip} a step"
    policies = sorted({dataset.policy(episode_id) for episode_id in dataset.episode_ids})
    yield f"played by: {', '.join(policies)}"
    lengths = [dataset.num_steps(episode_id) for episode_id in dataset.episode_ids]
    yield f"steps an episode: {min(lengths):,} to {max(lengths):,}, median {np.median(lengths):,.0f}"
    if info.unknown:
        yield f"unknown: {', '.join(info.unknown)}"
    if "reward" not in info.unknown:
        yield "returns:"
        yield from histogram([dataset.episode_return(episode_id) for episode_id in dataset.episode_ids])


def histogram(values: Sequence[float], most_bins: int = NUM_BINS) -> Iterator[str]:
    """Yield a line for each range of one value or more, all of one width of at least 1: range, bar, count."""
    low, high = min(values), max(values)
    counts, edges = np.histogram(values, bins=min(max(math.ceil(high - low), 1), most_bins))
    for count, start, stop in zip(counts, edges[:-1], edges[1:], strict=True):
        bar = "█" * max(round(BAR_WIDTH * count / counts.max()), int(count > 0))
        yield f"  {start:>10,.0f} – {stop:>10,.0f} {bar}{' ' if bar else ''}{count:,}"


def episode_sheet(dataset: FrameDataset) -> Rgb:
    """Pictures RGB uint8 [H, W, 3] in rows: up to 6 episodes from the least return to the greatest, and of each up to

    8 composites from the first to the last, evenly spread.
    """
    by_return = sorted(dataset.episode_ids, key=dataset.episode_return)
    chosen = [by_return[place] for place in _spread(len(by_return), SHEET_ROWS)]
    return contact_sheet([_strip(dataset, episode_id) for episode_id in chosen])


def _strip(dataset: FrameDataset, episode_id: int) -> list[Rgb]:
    decoder, picture = dataset.decoder(), np.empty((1, *dataset.info.screen_shape), np.uint8)
    strip = []
    for place in _spread(dataset.num_steps(episode_id) + 1, SHEET_COLUMNS):
        decoder.decode(episode_id, place, picture)
        strip.append(to_rgb(picture[0], dataset.info.palette).copy())
    return strip


def _spread(count: int, most: int) -> list[int]:
    """Up to `most` places of `count`, the first and the last among them, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()
