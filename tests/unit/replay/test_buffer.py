"""Replay settings that cannot work are refused by name."""

import numpy as np
import pydantic
import pytest

from lapa_ray.core.errors import LapaError
from lapa_ray.replay.buffer import ReplayConfig, build_replay


def build(**fields):
    config = ReplayConfig(capacity=100, min_size=10, **fields)
    return build_replay(
        config, frame_stack=8, use_per=True, generator=np.random.default_rng(0), gamma=0.9, shape=(2, 2)
    )


def test_a_horizon_beyond_the_capacity_is_refused():
    with pytest.raises(pydantic.ValidationError, match=r"n_step: should be at most capacity \(100\); got 101"):
        build(n_step=101)


def test_too_few_spare_frames_for_the_horizon_are_refused():
    with pytest.raises(LapaError, match=r"^--replay.spare_frames 64: should be at least 72, 4 × .*\.$"):
        build(spare_frames=64, n_step=10)
    assert build(spare_frames=72, n_step=10).store.n_step == 10
