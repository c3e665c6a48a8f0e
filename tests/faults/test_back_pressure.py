"""A learner or workers a hundred times too slow: what waits, and what Ray's object store holds, stays bounded."""

from __future__ import annotations

import re
from functools import partial

import pytest
import ray
from ray._private.internal_api import memory_summary  # there is no public way to ask how full the object store is

from lapa_ray.actors.cluster import ray_session
from lapa_ray.actors.learner import BATCHES_A_MESSAGE
from lapa_ray.core.config import RayConfig
from tests.support.counter_env import CounterEnv
from tests.support.probe import DyingEnv
from tests.support.probe_loop import (
    BATCH_SIZE,
    LENGTH,
    MAX_WAITING_STEPS,
    NUM_WORKERS,
    SAMPLES_PER_INSERT,
    check_run,
    loops,
)

NUM_STEPS = 800
SLOW_UPDATE_S = 0.02
"""A hundred times what the check of a batch takes."""
SLOW_STEP_S = 0.01
"""A hundred times what a step of the counter environment takes."""
MAX_WEIGHTS_AGE = 10
"""Fewer updates than a slow rollout earns; `check_run` looks at the age that was reached."""
CHUNK_MB = 9 * 2 * 84 * 84 / 1e6
BATCH_MB = BATCH_SIZE * 5 * 84 * 84 / 1e6
MOST_MB = 3 * (NUM_WORKERS * CHUNK_MB + 3 * BATCHES_A_MESSAGE * BATCH_MB)
"""Thrice what is under way at once: a chunk a worker, and the batches in use, the next ones and the last ones."""


@pytest.fixture(scope="module", autouse=True)
def ray_running():
    with pytest.MonkeyPatch.context() as monkeypatch:
        # Ray would keep what nobody needs for a second, or until there are a hundred objects of it.
        monkeypatch.setenv("RAY_free_objects_period_milliseconds", "0")
        with ray_session(RayConfig(num_cpus=2, object_store_mb=100)):
            yield


def object_store_mb() -> float:
    said = memory_summary(address=ray.get_runtime_context().gcs_address, stats_only=True)
    return float(re.search(r"Plasma memory usage (\d+) MiB", said)[1]) * 2**20 / 1e6


@pytest.mark.parametrize("slow", ["learner", "workers"])
def test_what_waits_is_bounded_however_slow_the_others_are(tmp_path, slow):
    with loops(tmp_path) as make_loop:
        loop = make_loop(
            partial(DyingEnv, LENGTH, seconds=SLOW_STEP_S) if slow == "workers" else partial(CounterEnv, LENGTH),
            num_steps=NUM_STEPS,
            learner={"seconds": SLOW_UPDATE_S} if slow == "learner" else None,
            max_weights_age=MAX_WEIGHTS_AGE,
        )
        waiting, stored, references = [0.0], [0.0], [0]

        def look() -> None:
            counts = ray.get(loop.server.status.remote()).counts
            waiting.append(counts["inserts"] - counts["free_inserts"] - counts["samples"] / SAMPLES_PER_INSERT)
            stored.append(object_store_mb())
            references.append(len(loop.supervisor._under_way()))

        loop.run(on_progress=look)
        check_run(loop)
    assert max(waiting) <= MAX_WAITING_STEPS + BATCH_SIZE / SAMPLES_PER_INSERT
    assert max(references) <= NUM_WORKERS + 1
    assert max(stored) <= MOST_MB + 1, "more is kept than is under way (told in whole MiB)"
    passed = NUM_STEPS * 84 * 84 / 1e6 + loop.counters.num_updates * BATCH_MB
    assert passed > 5 * MOST_MB, "too little passed to tell"
