"""Decoding: rows of episodes in, composites out. Holds no picture; may be used from several threads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.frames import GameInfo
from lapa_ray.core.pictures import Composite, Screen, compositor_for
from lapa_ray.dataset.shards import EpisodeRows


class PictureDecoder:
    """Composites of any run of steps of any episode; no row group is read that they do not need."""

    def __init__(self, info: GameInfo, episodes: Mapping[int, EpisodeRows], composite: Composite) -> None:
        self.picture_shape = info.screen_shape
        self._episodes = episodes
        self._compositor = compositor_for(info.palette, composite)

    def decode(self, episode_id: int, first: int, out: Screen) -> None:
        """Fill `out` [n, *picture_shape] with pictures `first` to `first` + n; 0 is the reset frame, t+1 of step t.

        Raises `LapaError` that names the shard if it is damaged.
        """
        rows = self._episodes[episode_id]
        ends = rows.picture_ends[first : first + len(out)]
        begin = int(rows.picture_ends[first - 1]) + 1 if first else 0
        self._compose(rows.screens(begin, int(ends[-1]) + 1), ends - begin, out)

    def _compose(self, pieces: Iterable[NDArray[np.uint8]], ends: NDArray[np.int64], out: Screen) -> None:
        """Put together what `pieces` hold of each step; `ends` are the last rows of the steps."""
        ready, row = 0, 0
        begun: list[Screen] = []
        for piece in pieces:
            screens = piece.reshape(-1, *self.picture_shape)
            whole = int(np.searchsorted(ends, row + len(screens)))
            here = ends[ready:whole] - row
            if self._compositor.num_frames == 1:
                np.take(screens, here, axis=0, out=out[ready:whole], mode="clip")
            else:
                begun = self._compose_steps(screens, here.tolist(), begun, out[ready:whole])
            ready, row = whole, row + len(screens)

    def _compose_steps(self, screens: Screen, ends: list[int], begun: list[Screen], out: Screen) -> list[Screen]:
        """Compose the steps that end at `ends` of `screens`, the first having `begun` before; returns what is left."""
        start = 0
        for picture, end in zip(out, ends, strict=True):
            part = screens[start : end + 1]
            self._compositor.into(picture, np.concatenate([*begun, part]) if begun else part)
            start, begun = end + 1, []
        return [*begun, screens[start:]] if start < len(screens) else begun
