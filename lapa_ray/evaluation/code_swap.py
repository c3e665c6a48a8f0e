"""Code swap: the codes of pair A decoded beside frame t of pair B, whose player should then move as A's did.

A moves the player; B is a held-out pair, 16 px or more away from A's place, in which the player walks straight on, just
the opposite way: so nothing stands behind it, where A's move leads, and a decoder that carries on what it sees in B
moves the player wrongly. The player is looked for in the decoded picture by its colour, near where RAM has it in B's
frame t, in the part of the screen in which that colour is its own (Breakout's wall and ball have the paddle's). Only
for decoders that see frame t. Knows the decoder as a function alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.pictures import Screen, to_rgb
from lapa_ray.core.seeds import generator_for
from lapa_ray.envs.entities import Entities
from lapa_ray.envs.looks import SCREEN_COLUMNS, SCREEN_ROWS, looks_of
from lapa_ray.evaluation.controllability import draw_others
from lapa_ray.evaluation.estimates import PooledRatio
from lapa_ray.evaluation.figures import Figure
from lapa_ray.evaluation.reconstruction import Codes, Decoder, batches, chw, decode_8bit, hwc
from lapa_ray.evaluation.walks import Walk

LEAST_MOVE_PX = 2.0
"""A pair whose player goes less far along one axis is no A."""
LEAST_SEEN_PX = 1.0
"""A player seen to go less far stands still."""
APART_PX = 16
SLACK_PX = 4
"""It is looked for so much farther away than the farthest A moves."""
LEAST_SHARE = 0.25
"""Pixels of its colour, as a share of those in the true frame t, below which the player is not found."""
STILL = -1
PACK = np.array([1 << 16, 1 << 8, 1])
Places = NDArray[np.float64]


@dataclass(frozen=True)
class Swap:
    """Codes of the pair `step_a` of `episode_a`, to be decoded beside frame t of the pair `step_b` of `episode_b`.

    moved: A's displacement, px right and down.
    """

    episode_a: int
    step_a: int
    episode_b: int
    step_b: int
    moved: tuple[int, int]


@dataclass(frozen=True)
class PlayerLook:
    """What the player is known by: its RGB uint8 [3], and first and last + 1 row and column where that is its own."""

    colour: NDArray[np.uint8]
    rows: tuple[int, int] = SCREEN_ROWS
    columns: tuple[int, int] = SCREEN_COLUMNS

    @classmethod
    def of(cls, game: str, entities: Entities, palette: NDArray[np.uint8]) -> PlayerLook | None:
        """As the looks of `game` have it, in the colours of `palette`, RGB uint8 [256, 3]; None if nobody looked."""
        looks = looks_of(game)
        if looks is None:
            return None
        sought = next(sprite for sprite in looks.sprites(entities) if sprite.name == looks.player)
        return cls(palette[sought.colours[0]], sought.rows, sought.columns)


def directions(moved: NDArray[np.floating] | NDArray[np.integer], least_px: float) -> NDArray[np.int64]:
    """Up 0, right 1, down 2, left 3 of displacements [N, 2] by their longer axis; `STILL` below `least_px`."""
    right, down = moved[..., 0], moved[..., 1]
    across = np.where(right > 0, 1, 3)
    upright = np.where(down > 0, 2, 0)
    longest = np.maximum(np.abs(right), np.abs(down))
    found: NDArray[np.int64] = np.where(np.abs(right) >= np.abs(down), across, upright).astype(np.int64)
    return np.where(longest >= least_px, found, STILL)


def choose_swaps(walks: dict[int, Walk], count: int, seed: int) -> list[Swap]:
    """At most `count` swaps of pairs in `walks`, drawn at random."""
    table, heading, straight = _moving_pairs(walks)
    generator = generator_for(seed, "code swap")
    swaps: list[Swap] = []
    for a in generator.permutation(len(table)).tolist():
        if len(swaps) == count:
            break
        far = np.abs(table[:, 4:6] - table[a, 4:6]).max(axis=1) >= APART_PX
        fit = np.flatnonzero(far & straight & (heading == (heading[a] + 2) % 4))
        if len(fit):
            b = table[int(generator.choice(fit))]
            episode, step, right, down = table[a, :4].tolist()
            swaps.append(Swap(episode, step, int(b[0]), int(b[1]), (right, down)))
    return swaps


def first_of_each_way(swaps: Sequence[Swap]) -> list[Swap]:
    """The first swap for each way that A's player goes; at most four."""
    first: dict[int, Swap] = {}
    for swap in swaps:
        first.setdefault(int(directions(np.array([swap.moved]), LEAST_MOVE_PX)[0]), swap)
    return list(first.values())


def _moving_pairs(walks: dict[int, Walk]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Pairs whose player moves: episode, step, move right and down, left, top [n, 6]; direction; whether as before."""
    tables, headings, straights = [np.zeros((0, 6), np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.bool_)]
    for episode, walk in walks.items():
        heading = np.where(walk.known, directions(walk.moved, LEAST_MOVE_PX), STILL)
        steps = np.flatnonzero(heading != STILL)
        places = np.stack([walk.boxes.left[steps], walk.boxes.top[steps]], axis=1)
        tables.append(np.column_stack([np.full(len(steps), episode), steps, walk.moved[steps], places]))
        headings.append(heading[steps])
        straights.append((steps > 0) & (heading[steps - 1] == heading[steps]))
    return np.concatenate(tables), np.concatenate(headings), np.concatenate(straights)


class SwapMeter:
    """Where the player goes in swapped pictures, beside random codes, no movement and the commonest move."""

    def __init__(
        self,
        decode: Decoder,
        codes: Mapping[int, Codes],
        walks: dict[int, Walk],
        swaps: Sequence[Swap],
        palette: NDArray[np.uint8],
        player: PlayerLook,
        *,
        batch_size: int,
        seed: int = 0,
    ) -> None:
        """`codes` [T, P] and `walks` by episode; `palette` RGB uint8 [256, 3], empty where pictures are RGB."""
        self._decode, self._codes, self._walks, self._swaps = decode, codes, walks, swaps
        self._palette, self._player = palette, player
        self._batch, self._seed = batch_size, seed
        lengths = [abs(axis) for swap in swaps for axis in swap.moved]
        self._reach = max(lengths, default=0) + SLACK_PX
        names = ("swapped", "random_codes", "copy_last_frame", "commonest_move", "true_frame")
        self._agrees = {name: PooledRatio() for name in names}
        self._error = {name: PooledRatio() for name in names}
        self._found = {name: PooledRatio() for name in names}
        self._commonest = _commonest(swaps)
        self._to_show = first_of_each_way(swaps)
        self.shown: list[tuple[Swap, NDArray[np.uint8]]] = []
        """One swap for each way that A's player goes, with what was decoded, RGB uint8 [H, W, 3]."""

    @property
    def num_swaps(self) -> int:
        """How many there are to be measured."""
        return len(self._swaps)

    def update(self, episode_id: int, composites: Screen) -> None:
        """Count the swaps whose B is of this episode; `composites` uint8 [T+1, H, W]."""
        ours = np.array([i for i, swap in enumerate(self._swaps) if swap.episode_b == episode_id], dtype=np.int64)
        generator = generator_for(self._seed, "swapped at random", episode_id)
        for part in batches(ours, self._batch):
            self._update_batch(part, composites, generator)

    def _update_batch(self, part: NDArray[np.int64], composites: Screen, generator: np.random.Generator) -> None:
        """Count the swaps of indices `part`."""
        swaps = [self._swaps[i] for i in part.tolist()]
        steps = np.array([swap.step_b for swap in swaps])
        before, after = (to_rgb(composites[steps + later], self._palette) for later in (0, 1))
        of_a = np.stack([self._codes[swap.episode_a][swap.step_a] for swap in swaps])
        swapped = hwc(decode_8bit(self._decode, of_a, chw(before)))
        by_chance = None
        if len(self._swaps) > 1:
            others = [self._swaps[i] for i in draw_others(part, len(self._swaps), generator).tolist()]
            random = np.stack([self._codes[other.episode_a][other.step_a] for other in others])
            by_chance = hwc(decode_8bit(self._decode, random, chw(before)))
        for row, swap in enumerate(swaps):
            own = self._walks[swap.episode_b].moved[swap.step_b]
            looks = [
                ("swapped", swapped[row], swap.moved),
                ("true_frame", after[row], (int(own[0]), int(own[1]))),
            ]
            if by_chance is not None:
                looks.append(("random_codes", by_chance[row], swap.moved))
            self._count(swap, before[row], looks)
            self._add("copy_last_frame", swap, np.zeros(2), swap.moved)
            self._add("commonest_move", swap, np.array(self._commonest, dtype=np.float64), swap.moved)
            if swap in self._to_show:
                self.shown.append((swap, swapped[row]))

    def _count(
        self,
        swap: Swap,
        before: NDArray[np.uint8],
        looks: Sequence[tuple[str, NDArray[np.uint8], tuple[int, int]]],
    ) -> None:
        """Count how far the player goes from `before` to each picture, which should be as far as is said there."""
        boxes, colours = self._walks[swap.episode_b].boxes, colours_of(before, self._player.colour)
        box = (int(boxes.left[swap.step_b]), int(boxes.top[swap.step_b]), boxes.width, boxes.height)
        start = find_player(before, colours, box, self._reach, self._player)
        for name, picture, moved in looks:
            least = 1.0 if start is None else LEAST_SHARE * start[1]
            end = find_player(picture, colours, box, self._reach, self._player, least)
            self._add(name, swap, None if start is None or end is None else end[0] - start[0], moved)

    def _add(self, name: str, swap: Swap, seen: Places | None, moved: tuple[int, int]) -> None:
        found, target = seen is not None, np.array(moved, dtype=np.float64)
        self._found[name].add(swap.episode_b, found, 1)
        if seen is None:
            self._agrees[name].add(swap.episode_b, 0, 1)
            return
        agrees = directions(seen[None], LEAST_SEEN_PX) == directions(target[None], LEAST_SEEN_PX)
        self._agrees[name].add(swap.episode_b, bool(agrees[0]), 1)
        self._error[name].add(swap.episode_b, float(np.hypot(*(seen - target))), 1)

    def figures(self, seed: int) -> tuple[Figure, ...]:
        """Agreement of directions, error of displacements, and how often the player was found at all."""
        beside = ("random_codes", "copy_last_frame", "commonest_move")
        agrees, error, found = (
            {name: meter.estimate(seed=seed) for name, meter in meters.items()}
            for meters in (self._agrees, self._error, self._found)
        )
        bound = "Decoded beside the frame t of a pair in which the player goes the opposite way, 16 px or more away. "
        return (
            Figure(
                name="code_swap_agreement",
                label="Code swap: the player goes the way of the code",
                unit="%",
                better="higher",
                estimate=agrees["swapped"],
                baselines={name: agrees[name] for name in beside},
                references={"true_frame": agrees["true_frame"]},
                note=bound
                + "Up, right, down or left by the longer axis, at least 1 px; not found counts as wrong. Random codes "
                "are those of another swap's pair A.",
            ),
            Figure(
                name="code_swap_error_px",
                label="Code swap: error of the displacement",
                unit="px",
                better="lower",
                estimate=error["swapped"],
                baselines={name: error[name] for name in beside},
                references={"true_frame": error["true_frame"]},
                note="Mean distance from A's displacement in RAM, where the player was found.",
            ),
            Figure(
                name="code_swap_found",
                label="Code swap: the player is found",
                unit="%",
                better="neither",
                estimate=found["swapped"],
                baselines={"random_codes": found["random_codes"]},
                references={"true_frame": found["true_frame"]},
                note="A quarter of its pixels in the true frame t, in its colour, near its place there.",
            ),
        )


def colours_of(picture: NDArray[np.uint8], player: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The colours of a true picture RGB uint8 [H, W, 3], int64 [n, 3], that of the `player` first."""
    packed = np.unique(picture.astype(np.int64) @ PACK)
    colours = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1)
    others = colours[(colours != player).any(axis=1)]
    return np.concatenate([player[None].astype(np.int64), others])


def find_player(
    picture: NDArray[np.uint8],
    colours: NDArray[np.int64],
    box: tuple[int, int, int, int],
    reach: int,
    look: PlayerLook,
    least_pixels: float = 1.0,
) -> tuple[Places, int] | None:
    """Centroid (column, row) of the player's pixels in RGB uint8 [H, W, 3], and how many; None below `least_pixels`.

    A pixel is the player's if of all `colours` the first is the nearest; box: left, top, width, height, around which
    `reach` px are searched, of the rows and columns of `look`.
    """
    left, top, width, height = box
    rows = _clipped(top - reach, top + height + reach, look.rows)
    columns = _clipped(left - reach, left + width + reach, look.columns)
    window = picture[rows, columns].astype(np.int64)
    distances = ((window[:, :, None] - colours) ** 2).sum(axis=-1)
    ys, xs = np.nonzero(distances.argmin(axis=-1) == 0)
    if len(xs) < max(least_pixels, 1):
        return None
    return np.array([xs.mean() + columns.start, ys.mean() + rows.start]), len(xs)


def _clipped(first: int, last: int, within: tuple[int, int]) -> slice:
    """From `first` to before `last`, as far as that is `within`; empty where none of it is."""
    start = max(first, within[0])
    return slice(start, max(min(last, within[1]), start))


def _commonest(swaps: Sequence[Swap]) -> tuple[int, int]:
    """The displacement that most A have."""
    if not swaps:
        return (0, 0)
    values, counts = np.unique([swap.moved for swap in swaps], axis=0, return_counts=True)
    first, second = values[counts.argmax()].tolist()
    return (first, second)
