"""Code metrics: grids of codes → how much of the codebook is used, and how much of that is grid position alone.

Streaming counts by position; everything is computed from them at the end, over the whole split (the perplexity of a
batch is biased low). Knows no model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict


class CodeFigures(BaseModel):
    """Use of a codebook. None where no code was counted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    perplexity: float | None
    """2 to the power of the entropy of all codes: as many equally likely codes would carry the same information."""
    entropy_bits: float | None
    """H(code), bits."""
    conditional_entropy_bits: float | None
    """H(code | grid position), bits: what is left once the place in the grid is known."""
    codes_used: int
    """Codes that occur at least once."""
    top_code_share: float | None
    """Share of the most frequent code, in [0, 1]."""
    num_codes: int
    """Codes that were counted."""


class CodeStatistics:
    """Counts of codes by grid position."""

    def __init__(self, codebook_size: int, num_positions: int) -> None:
        self.counts: NDArray[np.int64] = np.zeros((num_positions, codebook_size), dtype=np.int64)
        """int64 [positions, codebook_size]."""

    def update(self, codes: NDArray[np.integer]) -> None:
        """Count a batch of grids, integers [B, positions]."""
        positions, size = self.counts.shape
        flat = codes.astype(np.int64) + np.arange(positions) * size
        self.counts += np.bincount(flat.ravel(), minlength=self.counts.size).reshape(self.counts.shape)

    def compute(self) -> CodeFigures:
        """The figures of everything counted so far."""
        total = self.counts.sum(axis=0)
        num_codes = int(total.sum())
        if num_codes == 0:
            nothing = dict.fromkeys(("perplexity", "entropy_bits", "conditional_entropy_bits", "top_code_share"))
            return CodeFigures(codes_used=0, num_codes=0, **nothing)
        entropy = float(entropy_bits(total))
        weights = self.counts.sum(axis=1) / num_codes
        return CodeFigures(
            perplexity=float(2**entropy),
            entropy_bits=entropy,
            conditional_entropy_bits=float(weights @ entropy_bits(self.counts)),
            codes_used=int((total > 0).sum()),
            top_code_share=float(total.max() / num_codes),
            num_codes=num_codes,
        )

    def mode(self) -> NDArray[np.int64]:
        """The most frequent code of each position, int64 [positions]; the smallest of equals."""
        return self.counts.argmax(axis=1)


def entropy_bits(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Entropy, bits, of the distribution in the last axis of `counts`; 0 where nothing was counted."""
    totals = np.maximum(counts.sum(axis=-1, keepdims=True), 1)
    shares = counts / totals
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(shares > 0, -shares * np.log2(shares), 0.0)
    return np.asarray(terms.sum(axis=-1))
