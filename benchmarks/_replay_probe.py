"""A process that fills a replay buffer and tells, as JSON, how much memory it takes and how long a sample takes."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import psutil

from benchmarks._made_play import MadePlay
from benchmarks._replay_sides import BATCH_SIZE, BETA, FRAME_STACK, N_STEP, our_buffer
from lapa_ray.replay.buffer import ReplayBuffer

NUM_STREAMS = 16
CHUNK_ROWS = 64


def main() -> int:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks._replay_probe", description=__doc__)
    parser.add_argument("--capacity", type=int, required=True, help="transitions")
    parser.add_argument("--rounds", type=int, required=True, help="rounds of 200 samples")
    arguments = parser.parse_args()
    buffer = our_buffer(arguments.capacity)
    frames_per_s = fill(buffer)
    told = {
        "num_transitions": len(buffer),
        "num_frames": buffer.store.frames.capacity,
        "frames_per_s": frames_per_s,
        "sample_update_ms": [milliseconds(sampling(buffer)) for _ in range(arguments.rounds)],
        "copy_ms": [milliseconds(copying(buffer)) for _ in range(arguments.rounds)],
        "resident_bytes": psutil.Process().memory_info().rss,
    }
    print(json.dumps(told))
    return 0


def fill(buffer: ReplayBuffer) -> float:
    """Fill every slot of the ring of frames, by interleaved streams; returns frames a second."""
    play, first, ring = MadePlay(), 0, buffer.store.frames
    seconds, count = 0.0, 0
    while ring.next_id < 2 * NUM_STREAMS * CHUNK_ROWS + ring.capacity:
        chunks = [play.chunk(stream, first, CHUNK_ROWS) for stream in range(NUM_STREAMS)]
        start = time.perf_counter()
        buffer.add(chunks)
        seconds += time.perf_counter() - start
        first += CHUNK_ROWS
        count += NUM_STREAMS * CHUNK_ROWS
    return count / seconds


def sampling(buffer: ReplayBuffer) -> Callable[[], None]:
    """A sample of 32 and the update of its priorities, with TD errors as uneven as real ones."""
    generator = np.random.default_rng(1)

    def once() -> None:
        batch = buffer.sample(BATCH_SIZE, BETA)
        buffer.update_priorities(batch.ids, generator.lognormal(size=BATCH_SIZE).astype(np.float32))

    return once


def copying(buffer: ReplayBuffer) -> Callable[[], None]:
    """The least that a sample can cost: its bytes copied once, in one piece, from anywhere in the ring."""
    generator, frames = np.random.default_rng(1), buffer.store.frames.get_state()["frames"]
    count = BATCH_SIZE * (FRAME_STACK + N_STEP)
    copy = np.empty_like(frames[:count])

    def once() -> None:
        first = int(generator.integers(len(frames) - count))
        np.copyto(copy, frames[first : first + count])

    return once


def milliseconds(work: Callable[[], None], repeats: int = 200) -> float:
    """Median time of one of `repeats`, ms."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * median(times)


if __name__ == "__main__":
    sys.exit(main())
