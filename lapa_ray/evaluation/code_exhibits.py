"""Code exhibits: what the report shows of the codes beside figures, and the file that carries it there.

Swaps are chosen before anything is decoded, by the way A's player goes, never by how well they come out.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.errors import LapaError
from lapa_ray.evaluation.array_files import load_arrays, save_arrays
from lapa_ray.evaluation.code_activity import Activity, CodeMap

SWAP_RULE = "Of the swaps, in the order in which they were drawn, the first for each way that A's player goes."
Rgb = NDArray[np.uint8]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class SwapPictures:
    """Swaps that are shown, n of them; pictures RGB uint8 [n, H, W, 3].

    moved int64 [n, 2]: how far A's player goes, px; a, b int64 [n, 2]: episode and step of each pair.
    """

    moved: Integers
    a: Integers
    b: Integers
    a_before: Rgb
    a_after: Rgb
    b_before: Rgb
    decoded: Rgb


@dataclass(frozen=True)
class CodeExhibits:
    """Arrays of `codes.npz`; what was not measured has no entries. See `Activity`, `CodeMap` and `SwapPictures`."""

    grid: Integers
    """[2]: rows and columns of codes."""
    activity_still: NDArray[np.float64]
    activity_moving: NDArray[np.float64]
    activity_pairs: Integers
    activity_pixels: Integers
    map_points: NDArray[np.float64]
    map_codes: Integers
    map_counts: Integers
    map_positions: Integers
    map_trust: NDArray[np.float64]
    """[1], or [0] where there is no map."""
    swap_moved: Integers
    swap_a: Integers
    swap_b: Integers
    swap_a_before: Rgb
    swap_a_after: Rgb
    swap_b_before: Rgb
    swap_decoded: Rgb

    @classmethod
    def of(
        cls, grid: tuple[int, int], activity: Activity, code_map: CodeMap | None, swaps: SwapPictures | None
    ) -> CodeExhibits:
        """From what was measured."""
        none, nowhere = np.zeros(0, np.int64), np.zeros((0, 2), np.int64)
        shown = swaps or SwapPictures(nowhere, nowhere, nowhere, *[np.zeros((0, 1, 1, 3), np.uint8)] * 4)
        mapped = code_map or CodeMap(np.zeros((0, 2)), none, none, none, 0.0)
        return cls(
            grid=np.array(grid),
            activity_still=activity.still,
            activity_moving=activity.moving,
            activity_pairs=activity.num_pairs,
            activity_pixels=activity.pixels,
            map_points=mapped.points,
            map_codes=mapped.codes,
            map_counts=mapped.counts,
            map_positions=mapped.positions,
            map_trust=np.array([] if code_map is None else [code_map.trust], dtype=np.float64),
            **{f"swap_{field.name}": getattr(shown, field.name) for field in fields(SwapPictures)},
        )

    def save(self, path: Path) -> None:
        """Write `path`, compressed, by rename."""
        save_arrays(path, vars(self))

    @classmethod
    def load(cls, path: Path) -> CodeExhibits:
        """Read `path`. Raises `LapaError` if it is damaged, or missing as in evaluations of earlier versions."""
        if not path.exists():
            raise LapaError(f"{path}: missing, as in evaluations of earlier versions; make the evaluation again.")
        return load_arrays(path, cls)
