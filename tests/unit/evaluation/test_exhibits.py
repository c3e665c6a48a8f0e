"""Which pictures are chosen, and the file that carries them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from lapa_ray.core.errors import LapaError
from lapa_ray.evaluation.exhibits import Exhibits, choose_pairs, median_rollout, strip_horizons
from tests.support.report_sources import drawn_exhibits


def test_pairs_are_chosen_by_how_much_changes() -> None:
    changed = {4: np.arange(0, 50), 9: np.arange(50, 101)}
    assert choose_pairs(changed) == {"still": (4, 5), "typical": (9, 0), "moving": (9, 45), "most changed": (9, 50)}


def test_a_pair_is_shown_once() -> None:
    assert list(choose_pairs({0: np.array([3])}).values()) == [(0, 0)]


def test_the_rollout_of_median_change() -> None:
    assert median_rollout([(900, 1, 5), (10, 1, 6), (30, 2, 7)]) == (2, 7)


@pytest.mark.parametrize(
    ("horizon", "expected"), [(15, (1, 2, 4, 8, 15)), (3, (1, 2, 3)), (1, (1,)), (8, (1, 2, 4, 8))]
)
def test_strip_horizons_end_at_the_horizon(horizon: int, expected: tuple[int, ...]) -> None:
    assert strip_horizons(horizon) == expected


def test_exhibits_survive_the_file(tmp_path: Path) -> None:
    exhibits = drawn_exhibits(8, 8)
    exhibits.save(tmp_path / "pictures.npz")
    loaded = Exhibits.load(tmp_path / "pictures.npz")
    for field in fields(Exhibits):
        assert np.array_equal(getattr(loaded, field.name), getattr(exhibits, field.name))
    assert [path.name for path in tmp_path.iterdir()] == ["pictures.npz"]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pictures.npz"
    drawn_exhibits(8, 8).save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(LapaError, match=r"pictures\.npz: damaged"):
        Exhibits.load(path)
