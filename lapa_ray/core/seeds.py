"""Seeds: every random stream is derived from one seed and a name, so adding a stream never shifts another."""

from __future__ import annotations

import hashlib

import numpy as np


def seed_for(seed: int, *names: str | int) -> int:
    """Seed in [0, 2³¹) of the stream that `names` spell, stable across machines and versions."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) % 2**31


def generator_for(seed: int, *names: str | int) -> np.random.Generator:
    """NumPy generator of the stream that `names` spell."""
    return np.random.default_rng(seed_for(seed, *names))
