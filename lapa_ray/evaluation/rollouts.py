"""Rollouts: a world model on held-out codes, teacher forced and open loop, beside copy-last and the per-position mode.

Alignment: codes[t] stand for the pair (c_t, c_(t+1)); the model gets codes[t−1] and the action of step t, and predicts
codes[t]. A rollout that starts at step s has seen codes[s−1], thus frame c_s; at horizon h (from 1) it predicts
codes[s+h−1], whose picture is c_(s+h). Copy-last holds codes[s−1] and c_s.
Knows the world model and the decoder as functions alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lapa_ray.core.pictures import Screen, changed, to_rgb
from lapa_ray.evaluation.pixels import PixelMetrics
from lapa_ray.evaluation.reconstruction import Codes, Decoder, batches, chw, decode_8bit
from lapa_ray.evaluation.tokens import TokenAccuracy
from lapa_ray.models.imagination import Dynamics, rollout

PREDICTORS = ("model", "copy_last_codes", "position_mode")
PICTURES = ("model", "copy_last_frame", "true_codes")


@dataclass(frozen=True)
class CodeTrack:
    """What the world model may see of one episode: codes [T, P] and the actions [T] that it was trained with."""

    episode_id: int
    codes: Codes
    actions: NDArray[np.integer]


def open_loop(dynamics: Dynamics, codes: Codes, actions: NDArray[np.integer]) -> NDArray[np.int64]:
    """Most likely codes int64 [B, H, P] from the true `codes` [B, P] and `actions` [B, H], fed its own predictions."""
    start, asked = (torch.from_numpy(part.astype(np.int64)) for part in (codes, actions))
    return rollout(dynamics, start, asked).cpu().numpy()


class TeacherForcedMeter:
    """Accuracy one step ahead of the true past, over every step that has one."""

    def __init__(self, dynamics: Dynamics, mode: Codes, *, batch_size: int) -> None:
        """`mode` [P]: the most frequent code of each position in the training split."""
        self._dynamics, self._mode, self._batch_size = dynamics, mode, batch_size
        self.accuracy = {name: TokenAccuracy() for name in PREDICTORS}

    def update(self, track: CodeTrack) -> None:
        """Count all steps but the first of one episode."""
        for steps in batches(np.arange(1, len(track.codes)), self._batch_size):
            last, true = track.codes[steps - 1], track.codes[steps]
            predicted = open_loop(self._dynamics, last, track.actions[steps][:, None])[:, 0]
            _count(self.accuracy, predicted, true, last, self._mode, track.episode_id)


class OpenLoopMeter:
    """Accuracy and picture error by horizon, of rollouts fed with their own predictions."""

    def __init__(
        self,
        dynamics: Dynamics,
        decode: Decoder,
        mode: Codes,
        palette: NDArray[np.uint8],
        *,
        horizon: int,
    ) -> None:
        self._dynamics, self._decode, self._mode, self._palette = dynamics, decode, mode, palette
        self._horizon = horizon
        self.accuracy = [{name: TokenAccuracy() for name in PREDICTORS} for _ in range(horizon)]
        self.pixels = [{name: PixelMetrics() for name in PICTURES} for _ in range(horizon)]

    def update(
        self, track: CodeTrack, composites: Screen, starts: NDArray[np.int64], pictured: NDArray[np.int64]
    ) -> None:
        """Count the rollouts of one episode that start at steps `starts`; those among `pictured` as pictures too.

        A start s needs a past and a future: 1 ≤ s ≤ T − horizon.
        """
        predicted, shown = self.roll(track, starts), np.isin(starts, pictured)
        for h in range(self._horizon):
            last, true = track.codes[starts - 1], track.codes[starts + h]
            _count(self.accuracy[h], predicted[:, h], true, last, self._mode, track.episode_id)
        if shown.any():
            self._count_pictures(track, composites, starts[shown], predicted[shown])

    def roll(self, track: CodeTrack, starts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Predicted codes int64 [B, horizon, P] of the rollouts that start at `starts` [B]."""
        steps = starts[:, None] + np.arange(self._horizon)
        return open_loop(self._dynamics, track.codes[starts - 1], track.actions[steps])

    def _count_pictures(
        self, track: CodeTrack, composites: Screen, starts: NDArray[np.int64], predicted: NDArray[np.int64]
    ) -> None:
        seen = composites[starts]
        last = chw(to_rgb(seen, self._palette))
        codes = np.stack([track.codes[starts + h] for h in range(self._horizon)], axis=1)
        films = zip(decoded_film(self._decode, predicted, last), decoded_film(self._decode, codes, last), strict=True)
        for h, (imagined, of_true_codes) in enumerate(films):
            pictures = {"model": imagined, "copy_last_frame": last, "true_codes": of_true_codes}
            future = composites[starts + h + 1]
            moved, true = torch.from_numpy(changed(seen, future, self._palette)), chw(to_rgb(future, self._palette))
            for name, picture in pictures.items():
                self.pixels[h][name].update(picture, true, moved, track.episode_id)


def decoded_film(decode: Decoder, codes: Codes, frame: Tensor) -> Iterator[Tensor]:
    """Pictures uint8 [B, 3, H, W] of `codes` [B, H, P], each decoded beside the one before; `frame` comes first."""
    for step in range(codes.shape[1]):
        frame = decode_8bit(decode, codes[:, step], frame)
        yield frame


def possible_starts(num_steps: int, horizon: int) -> NDArray[np.int64]:
    """Steps of an episode of `num_steps` at which a rollout of `horizon` steps can start; empty if it is too short."""
    return np.arange(1, num_steps - horizon + 1)


def evenly(episode_ids: Sequence[int], count: int) -> list[int]:
    """At most `count` of the episodes, evenly spaced."""
    chosen = np.unique(np.linspace(0, len(episode_ids) - 1, count).round().astype(int))
    return [episode_ids[index] for index in chosen.tolist()]


def spread(lengths: dict[int, int], limit: int) -> dict[int, NDArray[np.int64]]:
    """At most `limit` of all items, evenly spaced over episodes one behind the other: indices [n] by episode id."""
    bounds = np.cumsum([0, *lengths.values()])
    total = int(bounds[-1])
    chosen = np.unique(np.linspace(0, max(total - 1, 0), min(limit, total)).round().astype(np.int64))
    return {
        episode_id: chosen[(chosen >= start) & (chosen < end)] - start
        for episode_id, start, end in zip(lengths, bounds[:-1], bounds[1:], strict=True)
    }


def _count(
    accuracy: dict[str, TokenAccuracy], predicted: Codes, true: Codes, last: Codes, mode: Codes, episode_id: int
) -> None:
    candidates = {
        "model": predicted,
        "copy_last_codes": last,
        "position_mode": np.broadcast_to(mode, true.shape),
    }
    for name, candidate in candidates.items():
        accuracy[name].update(candidate, true, last, episode_id)
