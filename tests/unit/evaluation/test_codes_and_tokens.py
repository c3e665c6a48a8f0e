"""Code and token figures against plain Python."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from lapa_ray.evaluation.codes import CodeStatistics
from lapa_ray.evaluation.tokens import TokenAccuracy


def plain_entropy(values: list[int]) -> float:
    counts = Counter(values)
    return -sum(n / len(values) * math.log2(n / len(values)) for n in counts.values())


def random_grids(seed: int, count: int = 40, positions: int = 6, size: int = 16) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.minimum(generator.geometric(0.3, size=(count, positions)) - 1, size - 1).astype(np.int16)


def test_code_figures_over_several_batches() -> None:
    grids = random_grids(0)
    statistics = CodeStatistics(16, num_positions=6)
    for batch in np.array_split(grids, 7):
        statistics.update(batch)
    figures = statistics.compute()
    flat = grids.ravel().tolist()
    assert figures.entropy_bits == pytest.approx(plain_entropy(flat))
    assert figures.perplexity == pytest.approx(2 ** plain_entropy(flat))
    by_position = [plain_entropy(grids[:, p].tolist()) for p in range(6)]
    assert figures.conditional_entropy_bits == pytest.approx(sum(by_position) / 6)
    assert figures.codes_used == len(set(flat))
    assert figures.top_code_share == pytest.approx(Counter(flat).most_common(1)[0][1] / len(flat))
    assert figures.num_codes == len(flat)


def test_codes_that_are_position_alone_carry_nothing_more() -> None:
    statistics = CodeStatistics(8, num_positions=4)
    statistics.update(np.tile(np.arange(4), (10, 1)))
    figures = statistics.compute()
    assert figures.perplexity == pytest.approx(4)
    assert figures.conditional_entropy_bits == 0


def test_no_codes_give_no_figures() -> None:
    figures = CodeStatistics(8, num_positions=4).compute()
    assert figures.perplexity is None
    assert figures.codes_used == 0


def test_mode_is_by_position() -> None:
    statistics = CodeStatistics(8, num_positions=2)
    statistics.update(np.array([[1, 7], [1, 3], [2, 7]]))
    assert statistics.mode().tolist() == [1, 7]


def test_token_accuracy_counts_all_and_changed_tokens() -> None:
    last = np.array([[0, 0, 0, 0], [5, 5, 5, 5]])
    true = np.array([[0, 1, 2, 0], [5, 5, 5, 6]])
    predicted = np.array([[0, 1, 0, 3], [5, 5, 4, 6]])
    accuracy = TokenAccuracy()
    accuracy.update(predicted[:1], true[:1], last[:1], episode_id=0)
    accuracy.update(predicted[1:], true[1:], last[1:], episode_id=1)
    assert accuracy.accuracy().value == pytest.approx(5 / 8)
    assert accuracy.changed_accuracy().value == pytest.approx(2 / 3)
    assert accuracy.changed_accuracy().num_samples == 3


def test_copy_last_never_hits_a_changed_token() -> None:
    grids = random_grids(1)
    accuracy = TokenAccuracy()
    accuracy.update(grids[:-1], grids[1:], grids[:-1])
    assert accuracy.accuracy().value == pytest.approx(float((grids[:-1] == grids[1:]).mean()))
    assert accuracy.changed_accuracy().value == 0
