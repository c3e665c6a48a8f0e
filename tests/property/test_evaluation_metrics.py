"""Metrics do not depend on how the data came in, and keep the bounds that their definitions give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lapa_ray.evaluation.codes import CodeStatistics
from lapa_ray.evaluation.estimates import PooledRatio
from lapa_ray.evaluation.pixels import PixelMetrics
from lapa_ray.evaluation.tokens import TokenAccuracy

POSITIONS, SIZE = 5, 9
grids = arrays.arrays(np.int16, st.tuples(st.integers(1, 30), st.just(POSITIONS)), elements=st.integers(0, SIZE - 1))
pictures = arrays.arrays(np.uint8, st.tuples(st.just(2), st.integers(1, 5), st.just(3), st.just(4), st.just(3)))


@settings(deadline=None)
@given(grids, st.integers(0, 30))
def test_code_figures_keep_their_bounds_and_do_not_depend_on_batches(codes: np.ndarray, cut: int) -> None:
    whole, parts = CodeStatistics(SIZE, POSITIONS), CodeStatistics(SIZE, POSITIONS)
    whole.update(codes)
    parts.update(codes[:cut])
    parts.update(codes[cut:])
    figures = whole.compute()
    assert figures == parts.compute()
    assert figures.perplexity is not None
    assert figures.entropy_bits is not None
    assert figures.conditional_entropy_bits is not None
    assert 1 - 1e-9 <= figures.perplexity <= figures.codes_used + 1e-9
    assert figures.conditional_entropy_bits <= figures.entropy_bits + 1e-9


@settings(deadline=None)
@given(pictures, st.integers(0, 5))
def test_pixel_errors_do_not_depend_on_batches_and_scale_with_distance(pair: np.ndarray, cut: int) -> None:
    predicted, true = torch.from_numpy(pair[0]), torch.from_numpy(pair[1])
    changed = (predicted[:, 0] & 1).bool()
    whole, parts = PixelMetrics(), PixelMetrics()
    whole.update(predicted, true, changed)
    parts.update(predicted[:cut], true[:cut], changed[:cut])
    parts.update(predicted[cut:], true[cut:], changed[cut:])
    assert whole.psnr() == parts.psnr()
    assert whole.changed_psnr() == parts.changed_psnr()
    assert whole.l1() == parts.l1()
    error = np.mean((pair[0].astype(float) - pair[1].astype(float)) ** 2)
    if error == 0:
        assert whole.psnr().value is None
    else:
        assert whole.psnr().value == pytest.approx(10 * np.log10(255**2 / error))


@settings(deadline=None)
@given(grids, st.randoms(use_true_random=False))
def test_a_perfect_prediction_is_right_everywhere(codes: np.ndarray, random) -> None:
    last = np.array(codes)
    random.shuffle(last)
    accuracy = TokenAccuracy()
    accuracy.update(codes, codes, last)
    assert accuracy.accuracy().value == 1
    assert accuracy.changed_accuracy().value in {1, None}


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), min_size=3, max_size=12))
def test_the_interval_lies_within_what_single_episodes_give(pairs: list[tuple[int, int]]) -> None:
    ratio = PooledRatio()
    for episode, (numerator, denominator) in enumerate(pairs):
        ratio.add(episode, numerator, denominator)
    estimate = ratio.estimate()
    single = [numerator / denominator for numerator, denominator in pairs]
    assert estimate.low is not None
    assert estimate.high is not None
    assert min(single) - 1e-9 <= estimate.low <= estimate.high <= max(single) + 1e-9
