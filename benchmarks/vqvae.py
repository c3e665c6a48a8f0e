"""`train-vqvae` beside a plain PyTorch loop on PNG files, beside its own network alone, and with Ray Train around it.

Every ratio is of one run: rounds of the sides alternate, and the median of the rounds' ratios counts. All sides train
the same network with batches of 32 on the same pictures of random play, recorded here; on a CPU all of them on the same
two cores, the PNG files read by two workers of torch's DataLoader. The floor is forward, backward and Adam alone, on
one batch that is there already: no training of this network is faster in the same layout and precision.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from benchmarks._frames import last_frames, record, write_pngs
from benchmarks._png_loader import PngPairs
from benchmarks._result import Row, keep_to_two_cores, print_rows, say
from benchmarks._vqvae_sides import (
    NUM_THREADS,
    WARM_UP,
    Ours,
    PlainLoop,
    TimesOf,
    bare,
    config_of,
    in_a_loop,
    one_batch,
    png_batches,
    samples_per_s,
    seconds_per_update,
)
from lapa_ray.actors.cluster import ray_session
from lapa_ray.core.config import RayConfig
from lapa_ray.models.device import resolve_device


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    num_episodes: int = 8
    num_rounds: int = 5
    num_updates: int = 30
    width: int | None = None


QUICK = Size(num_episodes=2, num_rounds=1, num_updates=4, width=4)
CPU_WIDTH, GPU_WIDTH = 16, 64
"""Channels of the first convolution: those of tune_configs/quick, and the source's."""
Rounds = Mapping[str, list[float]]


def main() -> int:
    """Measure, print a row a figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vqvae", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short round of a tiny network instead of five")
    size = QUICK if parser.parse_args().quick else Size()
    keep_to_two_cores()
    device = resolve_device("auto")
    torch.set_num_threads(NUM_THREADS)
    with tempfile.TemporaryDirectory(prefix="lapa-bench-") as scratch:
        rates, seconds = measure(Path(scratch), size, device)
    print_rows("vqvae", rows(rates, seconds))
    return 0


def measure(folder: Path, size: Size, device: torch.device) -> tuple[Rounds, Rounds]:
    """Samples/s of the sides, and seconds an update with and without Ray Train, a round each."""
    say(f"recording {size.num_episodes} episodes of random play, and writing the last frames of its steps as PNG")
    steps = last_frames(record(folder / "frames", size.num_episodes), folder / "steps")
    write_pngs(steps, folder / "png")
    width = size.width or (CPU_WIDTH if device.type == "cpu" else GPU_WIDTH)
    pngs = PngPairs(folder / "png", steps, "last")
    ours = Ours(config_of(folder / "steps", folder / "ours", width))
    sides: dict[str, TimesOf] = {
        "ours": ours.times,
        "plain": PlainLoop(png_batches(pngs), width, device, channels_last=False).times,
        "plain_channels_last": PlainLoop(png_batches(pngs), width, device, channels_last=True).times,
        "floor": PlainLoop(one_batch(), width, device, channels_last=True).times,
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for index in range(size.num_rounds):
        say(f"round {index + 1} of {size.num_rounds}: {', '.join(sides)}")
        for name, times_of in sides.items():
            rates[name].append(samples_per_s(times_of(size.num_updates)))
    return rates, _with_and_without_ray(folder, size, width)


def _with_and_without_ray(folder: Path, size: Size, width: int) -> Rounds:
    seconds: dict[str, list[float]] = {"ray_train": [], "fit": [], "bare": []}
    num_updates = WARM_UP + size.num_updates
    with ray_session(RayConfig(num_cpus=2 * NUM_THREADS)):
        for index in range(size.num_rounds):
            say(f"round {index + 1} of {size.num_rounds}: {', '.join(seconds)}")
            for name, num_workers in (("ray_train", 1), ("fit", 0)):
                config = config_of(folder / "steps", folder / f"{name}_{index}", width, num_workers, num_updates)
                seconds[name].append(seconds_per_update(in_a_loop(config, num_workers)))
            config = config_of(folder / "steps", folder / f"bare_{index}", width)
            seconds["bare"].append(seconds_per_update(bare(config, num_updates)))
    return seconds


def rows(rates: Rounds, seconds: Rounds) -> list[Row]:
    """The table: each figure, its bar, and the medians that it is made of."""
    rate = {name: median(of) for name, of in rates.items()}
    update_ms = {name: 1000 * median(of) for name, of in seconds.items()}
    ours, bare_ms = f"{rate['ours']:,.1f} samples/s", f"the bare loop {update_ms['bare']:,.1f}"
    return [
        Row("vs_plain_loop", _ratio(rates, "ours", "plain"), "≥ 1.5", f"{ours}, plain loop {rate['plain']:,.1f}"),
        Row(
            "vs_plain_loop_channels_last",
            _ratio(rates, "ours", "plain_channels_last"),
            "–",
            f"{ours}, plain loop with our layout {rate['plain_channels_last']:,.1f}",
        ),
        Row("vs_floor", _ratio(rates, "ours", "floor"), "–", f"{ours}, network alone {rate['floor']:,.1f}"),
        Row("samples_per_s", rate["ours"], "–", "batches of 32, in this process"),
        Row(
            "train_overhead",
            _ratio(seconds, "ray_train", "bare") - 1,
            "≤ 0.03",
            f"{update_ms['ray_train']:,.1f} ms an update in a worker of Ray Train's, {bare_ms}",
        ),
        Row(
            "loop_overhead",
            _ratio(seconds, "fit", "bare") - 1,
            "–",
            f"{update_ms['fit']:,.1f} ms an update of our loop in this process, {bare_ms}",
        ),
    ]


def _ratio(rounds: Rounds, ours: str, theirs: str) -> float:
    return median(mine / other for mine, other in zip(rounds[ours], rounds[theirs], strict=True))


if __name__ == "__main__":
    sys.exit(main())
