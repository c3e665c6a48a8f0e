"""n-step returns over the rows of one stream: which steps have come to the end of their horizon, and what they earned.

Pure functions on arrays. Sutton (1988); as used by Hessel et al. (2018), "Rainbow", section "Multi-step learning".
A row is a frame and how it was reached, as in a chunk; `frame` is its id in the ring, below 0 where it is not known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lapa_ray.replay.chunk import Chunk

Indices = NDArray[np.int64]
Floats = NDArray[np.float32]
Rows = NDArray[np.void]
ROW = np.dtype(
    [
        ("frame", np.int64),
        ("start", np.bool_),
        ("terminated", np.bool_),
        ("action", np.int64),
        ("reward", np.float32),
        ("max_q", np.float32),
        ("chosen_q", np.float32),
    ]
)


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps whose horizon has ended, oldest first.

    first, last int64 [m], the rows of the action and of the horizon's end; rewards float32 [m], discounted sums;
    discounts float32 [m], γ^n or 0 where an episode terminated; td_errors float32 [m], of the chunk's own Q-values,
    NaN where it told none.
    """

    first: Indices
    last: Indices
    rewards: Floats
    discounts: Floats
    td_errors: Floats


def rows_of(chunk: Chunk, first_frame: int) -> Rows:
    """The rows of `chunk`, whose frames have ids from `first_frame` on."""
    rows = np.empty(len(chunk), dtype=ROW)
    rows["frame"] = first_frame + np.arange(len(chunk))
    rows["start"] = chunk.starts
    rows["terminated"] = chunk.terminated & ~chunk.starts
    rows["action"], rows["reward"] = chunk.actions, chunk.rewards
    rows["max_q"] = np.nan if chunk.max_q is None else chunk.max_q
    rows["chosen_q"] = np.nan if chunk.chosen_q is None else chunk.chosen_q
    return rows


def unknown_past(count: int) -> Rows:
    """The past of a stream of which nothing is known: no steps, no frames."""
    rows = np.zeros(count, dtype=ROW)
    rows["frame"], rows["start"] = -1, True
    return rows


def ended_steps(rows: Rows, num_old: int, n_step: int, gamma: float) -> Steps:
    """The steps in `rows` whose horizon ends behind the first `num_old` rows.

    A horizon is `n_step` rows long, or ends with the episode where that terminates. A step whose horizon a reset cuts
    (a truncation) never comes to its end.
    """
    first, last = _horizons(rows, num_old, n_step)
    ahead = first[:, None] + np.arange(n_step)
    within = ahead <= last[:, None]
    earned = rows["reward"][np.minimum(ahead, last[:, None])] * (gamma ** np.arange(n_step))
    rewards = np.where(within, earned, 0.0).sum(axis=1).astype(np.float32)
    discounts = np.where(rows["terminated"][last], 0.0, gamma**n_step).astype(np.float32)
    ahead_values = np.where(discounts > 0, discounts * rows["max_q"][last], np.float32(0))
    td_errors = np.abs(rewards + ahead_values - rows["chosen_q"][first])
    return Steps(first, last, rewards, discounts, td_errors)


def windows_of(rows: Rows, steps: Steps, frame_stack: int, n_step: int) -> Indices:
    """Ids int64 [m, k+n] of the frames of `steps`; below 0 where one is not known.

    Nothing before the episode's first frame is in a window, and nothing behind the horizon's end: they fill up.
    """
    wanted = steps.first[:, None] + np.arange(-frame_stack, n_step)
    earliest = _last_starts(rows)[steps.first - 1]
    return rows["frame"][np.clip(wanted, earliest[:, None], steps.last[:, None])]


def needed_past(rows: Rows, frame_stack: int, n_step: int) -> Rows:
    """The last k+n−1 rows of a stream, all that steps to come depend on; what none needs names a needed frame."""
    past = rows[-(frame_stack + n_step - 1) :].copy()
    starts, terminals = np.flatnonzero(past["start"]), np.flatnonzero(past["terminated"])
    start = int(starts[-1]) if len(starts) else 0
    # The oldest step that still waits: all up to a terminal row have ended, all before a start are cut.
    waiting = max(len(past) - n_step + 1, start + 1, int(terminals[-1]) + 1 if len(terminals) else 0)
    oldest = max(waiting - frame_stack, start)
    past["frame"][:oldest] = past["frame"][oldest]
    return past


def _horizons(rows: Rows, num_old: int, n_step: int) -> tuple[Indices, Indices]:
    """First and last row of the horizons that end behind the first `num_old` rows."""
    count, index = len(rows), np.arange(len(rows))
    terminal = _next(np.where(rows["terminated"], index, count))
    last = np.minimum(index + n_step - 1, terminal)
    next_start = np.append(_next(np.where(rows["start"], index, count)), count)[1:]
    has_ended = ~rows["start"] & (last >= num_old) & (last < np.minimum(next_start, count))
    first = np.flatnonzero(has_ended)
    return first, last[first]


def _next(marks: Indices) -> Indices:
    """The least of each mark and all behind it."""
    return np.minimum.accumulate(marks[::-1])[::-1]


def _last_starts(rows: Rows) -> Indices:
    """The last start at or before each row; 0 where there is none."""
    return np.maximum.accumulate(np.where(rows["start"], np.arange(len(rows)), 0))
