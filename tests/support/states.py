"""Nested states, as `get_state` gives them, held against each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def assert_same(one: Any, other: Any, path: str = "", skipped: frozenset[str] = frozenset()) -> None:
    """Of nested states: every number, array and tensor, but for keys in `skipped`, such as clocks."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one.keys() - skipped:
            assert_same(one[key], other[key], f"{path}/{key}", skipped)
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for index, value in enumerate(one):
            assert_same(value, other[index], f"{path}/{index}", skipped)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), path
    elif one is None or isinstance(one, bool | int | float | str):
        assert one == other or (one != one and other != other), path
    else:
        mine, others = np.asarray(one), np.asarray(other)
        # By their bytes, since no two numbers that are none are equal; or by value, where a file changed the type.
        assert mine.shape == others.shape, path
        assert mine.tobytes() == others.tobytes() or np.array_equal(mine, others), path
