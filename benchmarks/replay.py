"""The prioritised replay buffer at 1,000,000 transitions, and beside cpprb and RLlib: memory, sample + update.

Stacks of 8 frames of 84×84, batches of 32, n-step 3 but beside cpprb, which keeps a frame once for n = 1 alone. The
memory is that of a process that filled such a buffer, interpreter and all, until every slot of its ring was written.
Every ratio is of one run: rounds of the two sides alternate, and the median of the rounds' ratios counts; both hold the
same transitions, as many as a peer that keeps every stack whole can hold here (cpprb without compression: 56 GB a
million). A sample is what a buffer gives: ours and cpprb's are arrays of a batch, RLlib's are 32 episodes of which no
batch is made yet.

Where the floors lie: 1,000,000 frames are 7.06 GB, 2 % spare ones 0.14 GB, and beside the frames a transition takes 76
bytes: 44 for the slots of its window, 16 for action, return and discount, 8 to know when it loses a frame, 8.3 in the
sum tree. A sample copies 32 × 11 frames, 2.48 MB; `copy_floor_ms` is what that takes in one piece.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from benchmarks._made_play import EPISODE_STEPS, MadePlay
from benchmarks._replay_sides import BATCH_SIZE, PEERS, Ours, Side
from benchmarks._result import Row, print_rows, say


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    capacity: int = 1_000_000
    peer_episodes: int = 40
    num_rounds: int = 7
    round_s: float = 2.0


QUICK = Size(capacity=20_000, peer_episodes=4, num_rounds=5, round_s=0.2)


def main() -> int:
    """Measure, print a row a figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes: a smaller buffer")
    size = QUICK if parser.parse_args().quick else Size()
    rows = [*at_capacity(size), *(against(key, size) for key in PEERS)]
    print_rows("replay", rows)
    return 0


def at_capacity(size: Size) -> list[Row]:
    """Memory and speed of a full buffer, in a process of its own."""
    say(f"filling {size.capacity:,} transitions")
    told = _probe(size)
    assert told["num_transitions"] == size.capacity, "the buffer is not full"
    what = f"{told['num_transitions']:,} transitions, {told['num_frames']:,} frames"
    sample, copy = median(told["sample_update_ms"]), median(told["copy_ms"])
    return [
        Row(f"resident_gb_at_{_short(size.capacity)}", told["resident_bytes"] / 1e9, "≤ 7.5", f"RSS, {what}"),
        Row("sample_update_ms", sample, "≤ 1", f"batch of 32 from {what}"),
        Row("copy_floor_ms", copy, "–", "the bytes of such a batch in one piece"),
        Row("insert_frames_per_s", told["frames_per_s"], "–", "in chunks of 64, into memory never touched before"),
    ]


def against(key: str, size: Size) -> Row:
    """How many times longer a peer takes, of the same transitions."""
    say(f"{key}: {size.num_rounds} rounds")
    play = MadePlay()
    ours: Side = Ours(play, size.peer_episodes, PEERS[key].n_step)
    peer = PEERS[key].fill(play, size.peer_episodes)
    times = [tuple(_milliseconds(side, size.round_s) for side in (ours, peer)) for _ in range(size.num_rounds)]
    mine, theirs = (median(side) for side in zip(*times, strict=True))
    what = f"{size.peer_episodes * EPISODE_STEPS:,} transitions of n = {PEERS[key].n_step}"
    of = f"{theirs:.2f} ms, ours {mine:.2f} ms, of {what}"
    return Row(key, median(theirs / mine for mine, theirs in times), "≥ 1", of)


def _milliseconds(side: Side, seconds: float) -> float:
    """Median time of a sample and its update, over `seconds`, ms."""
    generator, times = np.random.default_rng(2), list[float]()
    while not times or sum(times) < seconds:
        td_errors = generator.lognormal(size=BATCH_SIZE).astype(np.float32)
        start = time.perf_counter()
        side.sample_and_update(td_errors)
        times.append(time.perf_counter() - start)
    return 1000 * median(times)


def _probe(size: Size) -> dict[str, Any]:
    """What a process that fills a buffer tells."""
    command = [sys.executable, "-m", "benchmarks._replay_probe"]
    options = ["--capacity", str(size.capacity), "--rounds", str(size.num_rounds)]
    done = subprocess.run([*command, *options], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"benchmarks.replay: the filling process ended with exit code {done.returncode}.")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def _short(count: int) -> str:
    return f"{count // 1_000_000}m" if count % 1_000_000 == 0 else f"{count // 1000}k"


if __name__ == "__main__":
    sys.exit(main())
