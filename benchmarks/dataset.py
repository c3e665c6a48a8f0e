"""The frame dataset beside its peers: size against PNG, pairs/s against PNG folders and Ray Data, cost of recording.

All of it on random play that is recorded here, by the project's own code. Every ratio is of one run: rounds of the two
sides alternate, and the median of the rounds' ratios counts. Pairs/s are pairs of pictures that arrive as torch tensors
in shuffled batches of 32; the stream's figures include the start of every epoch.

Where the floor of the stream lies, for a pair of 210×160, in µs of one core (the least of 12 rounds on the two cores of
the development machine, busy with load 10): with `last` of one stored frame a step 7.7 to read and decompress 34 kB,
5.4 to pick the picture, 8.6 to copy two of them into a batch: 92,000 pairs/s of two cores. With `max4` 26 for four
frames, which change less and so decompress faster, 51 for the composite, 9 for the batch: 23,000.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from torch import Tensor

from benchmarks import _png_loader, _ray_data, _recording_cost
from benchmarks._frames import last_frames, record, repeated, write_pngs
from benchmarks._result import Row, keep_to_two_cores, print_rows, say
from lapa_ray.core.pictures import Composite
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.stream import CHUNK_ITEMS, Draw, PictureStream
from lapa_ray.dataset.window import AHEAD

BATCH_SIZE = 32
SOURCE_STEPS = 450_000
"""Of the source's set, one frame each."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    num_episodes: int = 12
    num_rounds: int = 5
    round_s: float = 4.0
    ray_frames: int = 60_000
    long_frames: int = 1_000_000
    rollouts: int = 30
    training_steps: int = 2_500


QUICK = Size(
    num_episodes=2, num_rounds=3, round_s=1.0, ray_frames=6_000, long_frames=20_000, rollouts=4, training_steps=600
)


def main() -> int:
    """Measure, print a row a figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dataset", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes: a smaller set, fewer rounds")
    size = QUICK if parser.parse_args().quick else Size()
    keep_to_two_cores()
    with tempfile.TemporaryDirectory(prefix="lapa-bench-") as scratch:
        rows = measure(Path(scratch), size)
    print_rows("dataset", rows)
    return 0


def measure(folder: Path, size: Size) -> list[Row]:
    """All figures."""
    say(f"recording {size.num_episodes} episodes of random play")
    frames = record(folder / "frames", size.num_episodes)
    steps = last_frames(frames, folder / "steps")
    say("writing the same frames as PNG")
    png_bytes = write_pngs(frames, folder / "png")
    return [
        *sizes(frames, steps, png_bytes),
        *against_png(frames, steps, folder / "png", size),
        against_ray_data(steps, folder / "many_steps", size),
        *streaming(frames, folder / "long", size),
        *recording(folder / "gameplay", size),
    ]


def sizes(frames: FrameDataset, steps: FrameDataset, png_bytes: float) -> list[Row]:
    """Bytes a frame, ours and PNG's."""
    ours, ours_a_step = (float(_figure(dataset, "bytes_per_frame")) for dataset in (frames, steps))
    of = f"{png_bytes:,.0f} B a frame as RGB PNG, {ours:.1f} B in shards"
    extrapolated = f"{SOURCE_STEPS:,} × {ours_a_step:.1f} B, measured on {_figure(steps, 'num_frames'):,} steps"
    return [
        Row("png_bytes_ratio", png_bytes / ours, "≥ 5", of),
        Row("source_set_mb", SOURCE_STEPS * ours_a_step / 1e6, "≤ 150", extrapolated),
    ]


def against_png(frames: FrameDataset, steps: FrameDataset, pngs: Path, size: Size) -> Iterator[Row]:
    """Pairs/s of the stream and of the PNG loader, of the same steps."""
    cases: tuple[tuple[str, FrameDataset, Composite, str], ...] = (
        ("vs_png_loader_composite", frames, "max4", "≥ 6"),
        ("vs_png_loader_last", steps, "last", "≥ 15"),
    )
    for key, dataset, composite, bar in cases:
        say(f"{key}: {size.num_rounds} rounds")
        pairs = _png_loader.PngPairs(pngs, frames, composite)
        peer = _png_loader.batches(pairs, BATCH_SIZE)
        with PictureStream(dataset, dataset.episode_ids, Draw(BATCH_SIZE, composite=composite)) as stream:
            ours = _endless(stream)
            next(ours), next(peer)
            rates = [(_settled_rate(ours, size.round_s), _rate(peer, size.round_s)) for _ in range(size.num_rounds)]
        yield Row(key, _median_ratio(rates), bar, _sides(rates, "pairs/s", "PNG loader's"))


def against_ray_data(steps: FrameDataset, folder: Path, size: Size) -> Row:
    """Pairs/s of the stream and pictures/s of Ray Data, of the same shards."""
    say(f"vs_ray_data: writing {size.ray_frames:,} frames")
    dataset = repeated(steps, folder, size.ray_frames)
    rates = []
    draw = Draw(BATCH_SIZE, composite="last")
    with _ray_data.session(), PictureStream(dataset, dataset.episode_ids, draw) as stream:
        ours = _endless(stream)
        next(ours)
        for _ in range(size.num_rounds):
            peer = _ray_data.batches(folder, BATCH_SIZE)
            next(peer)  # the start of Ray Data's execution does not count
            rates.append((_settled_rate(ours, size.round_s), _rate(peer, float("inf"))))
    return Row(
        "vs_ray_data", _median_ratio(rates), "≥ 1", _sides(rates, "pairs/s", "pictures/s of Ray Data, in order:")
    )


def streaming(frames: FrameDataset, folder: Path, size: Size) -> list[Row]:
    """A process that streams a long set: how soon the first batch is there, and how much memory it takes."""
    say(f"writing a set of {size.long_frames:,} frames")
    long = repeated(frames, folder, size.long_frames)
    what = f"{_figure(long, 'num_frames'):,} frames, {_figure(long, 'megabytes'):,.0f} MB"
    say("streaming it")
    firsts = [_probe(folder, "--first-batch-only")["first_batch_s"] for _ in range(size.num_rounds)]
    told = _probe(folder)
    rate = told["num_pairs"] / told["seconds"]
    return [
        Row("first_batch_s", median(firsts), "< 2", f"from opening a set of {what} in the system's cache"),
        Row("resident_gb", told["resident_bytes"] / 1e9, "< 2", f"RSS in an epoch of {what}, {rate:,.0f} pairs/s"),
    ]


def _probe(folder: Path, *options: str) -> dict[str, float]:
    """What a process that streams `folder` tells."""
    command = [sys.executable, "-m", "benchmarks._stream_probe", str(folder), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"benchmarks.dataset: the streaming process ended with exit code {done.returncode}.")
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def recording(folder: Path, size: Size) -> list[Row]:
    """Share of a rollout worker's steps/s that writing costs it: in training, and playing alone with a core to itself.

    Alone by its network has no bar: in training the learner is the brake.
    """
    say(f"recording_cost: {size.num_rounds} pairs of trainings of {size.training_steps:,} steps")
    measured = {"recording_cost": _recording_cost.in_training(folder, size.training_steps, size.num_rounds)}
    for key, epsilon in (("recording_cost_worker", _recording_cost.TRAINING_EPSILON), ("recording_cost_bare", 1.0)):
        say(f"{key}: {size.rollouts} rollouts")
        measured[key] = _recording_cost.in_a_worker(folder / key, epsilon, size.rollouts)
    bars = {"recording_cost": "≤ 0.05", "recording_cost_worker": "–", "recording_cost_bare": "≤ 0.30"}
    return [
        Row(key, _recording_cost.cost(rates), bars[key], _sides(rates, "steps/s writing", "without:"))
        for key, rates in measured.items()
    ]


def _endless(stream: PictureStream) -> Iterator[tuple[Tensor, ...]]:
    import torch

    while True:
        for batch in stream:
            yield tuple(torch.from_numpy(batch.pictures))


def _settled_rate(stream: Iterator[Any], seconds: float) -> float:
    """`_rate` of our stream, without what its threads decoded ahead while the peer was timed."""
    for _ in range(2 * AHEAD * CHUNK_ITEMS[0] // BATCH_SIZE):
        next(stream)
    return _rate(stream, seconds)


def _rate(batches: Iterator[Any], seconds: float) -> float:
    """Pairs (or pictures) a second, over `seconds` or to the end."""
    start, count = time.perf_counter(), 0
    for batch in batches:
        count += len(batch[0]) if isinstance(batch, (tuple, list)) else len(batch)
        if time.perf_counter() - start >= seconds:
            break
    return count / (time.perf_counter() - start)


def _median_ratio(rates: list[tuple[float, float]]) -> float:
    return median(ours / theirs for ours, theirs in rates)


def _sides(rates: list[tuple[float, float]], ours: str, theirs: str) -> str:
    mine, others = (median(side) for side in zip(*rates, strict=True))
    return f"{mine:,.0f} {ours}, {theirs} {others:,.0f}"


def _figure(dataset: FrameDataset, name: str) -> Any:
    return dataset.artefact.manifest.figures[name]


if __name__ == "__main__":
    sys.exit(main())
