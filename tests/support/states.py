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
    else:
        mine, others = np.asarray(one), np.asarray(other)
        if mine.dtype.names:  # rows, in which NumPy takes no two numbers that are none for equal
            assert (mine.dtype, mine.tobytes()) == (others.dtype, others.tobytes()), path
        else:
            np.testing.assert_array_equal(mine, others, err_msg=path)
