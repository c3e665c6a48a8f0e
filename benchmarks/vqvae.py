"""`train-vqvae` beside a plain PyTorch loop on PNG files, beside its own network alone, and with Ray Train around it.

Every ratio is of one run: rounds of the sides alternate, and the median of the rounds' ratios counts. Each side is a
process of its own, which waits while another works: the plain loop has PyTorch's own defaults, and none of what ours
sets for its process. All sides train the same network with batches of 32 on the same pictures of random play, recorded
here; on a CPU all of them on the same two cores, the PNG files read by two workers of torch's DataLoader. The floor is
forward, backward and Adam alone, on one batch that is there already, in a process set up like ours; its Adam is
PyTorch's default, ours is fused. Large matrix products tell what the machine does at most. Ray is up while its side
trains, and no longer: what its processes take of the cores is part of its overhead.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Self

import torch

from benchmarks._frames import last_frames, record, write_pngs
from benchmarks._result import Row, keep_to_two_cores, print_rows, say
from benchmarks._side_process import SideProcess
from benchmarks._vqvae_loops import LOOPS, ray_shares
from benchmarks._vqvae_sides import BATCH_SIZE, flops_per_sample, product_size, samples_per_s, seconds_per_update
from lapa_ray.core.errors import LapaError
from lapa_ray.models.device import check_compiler, resolve_device


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
SIDES = ("ours", "plain", "plain_channels_last", "floor", "products")
COMPILED = "ours_compiled"
LEAST_SHARE = 0.001
"""Of a core: processes of Ray's that take less are not named."""


def main() -> int:
    """Measure, print a row a figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vqvae", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short round of a tiny network instead of five")
    size = QUICK if parser.parse_args().quick else Size()
    keep_to_two_cores()
    with tempfile.TemporaryDirectory(prefix="lapa-bench-") as scratch:
        rates, seconds = measure(Path(scratch), size)
        shares = ray_shares(Path(scratch), size.num_rounds)
    print_rows("vqvae", [*rows(rates, seconds, Work.here(size.width or _width())), ray_row(shares)])
    return 0


@dataclass(frozen=True)
class Work:
    """Floating-point operations of a sample's update and of one matrix product, and where they are done."""

    sample: float
    product: float
    device: str

    @classmethod
    def here(cls, width: int) -> Self:
        """On this machine."""
        device = resolve_device("auto")
        return cls(flops_per_sample(width), 2 * product_size(device) ** 3, device.type)


def measure(folder: Path, size: Size) -> tuple[Rounds, Rounds]:
    """Samples/s of the sides, and seconds an update with and without Ray Train, a round each."""
    say(f"recording {size.num_episodes} episodes of random play, and writing the last frames of its steps as PNG")
    steps = last_frames(record(folder / "frames", size.num_episodes), folder / "steps")
    write_pngs(steps, folder / "png")
    sides = [*SIDES, *([COMPILED] if _has_compiler() else [])]
    rates = {name: [samples_per_s(of) for of in times] for name, times in _times(sides, folder, size).items()}
    seconds = {name: [seconds_per_update(of) for of in times] for name, times in _times([*LOOPS], folder, size).items()}
    return rates, seconds


def _times(sides: Sequence[str], folder: Path, size: Size) -> dict[str, list[list[float]]]:
    """When the updates of each round ended; the sides live from the first round to the last, and take turns."""
    width = size.width or _width()
    times: dict[str, list[list[float]]] = {name: [] for name in sides}
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(SideProcess("benchmarks._vqvae_side", name, str(folder), str(width)))
            for name in sides
        }
        for name, process in processes.items():
            say(f"starting {name}")
            process.times(1)
        for index in range(size.num_rounds):
            say(f"round {index + 1} of {size.num_rounds}: {', '.join(sides)}")
            for name, process in processes.items():
                times[name].append(process.times(size.num_updates))
    return times


def _width() -> int:
    return GPU_WIDTH if torch.accelerator.is_available() else CPU_WIDTH


def _has_compiler() -> bool:
    try:
        check_compiler()
    except LapaError as error:
        say(f"without {COMPILED}: {error}")
        return False
    return True


def rows(rates: Rounds, seconds: Rounds, work: Work) -> list[Row]:
    """The table: each figure, its bar, and the medians that it is made of."""
    bar = "≥ 1.5" if work.device == "cpu" else "≥ 5"
    rate = {name: median(of) for name, of in rates.items()}
    update_ms = {name: 1000 * median(of) for name, of in seconds.items()}
    ours, bare_ms = f"{rate['ours']:,.1f} samples/s", f"the bare loop {update_ms['bare']:,.1f}"
    return [
        Row("vs_plain_loop", _ratio(rates, "ours", "plain"), bar, f"{ours}, plain loop {rate['plain']:,.1f}"),
        Row(
            "vs_plain_loop_channels_last",
            _ratio(rates, "ours", "plain_channels_last"),
            "–",
            f"{ours}, plain loop with our layout {rate['plain_channels_last']:,.1f}",
        ),
        Row("vs_floor", _ratio(rates, "ours", "floor"), "–", f"{ours}, network alone {rate['floor']:,.1f}"),
        Row("samples_per_s", rate["ours"], "–", "batches of 32, without Ray"),
        _share_row(rates, work),
        *_compiled_rows(rates, bar),
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
            f"{update_ms['fit']:,.1f} ms an update of our loop without Ray, {bare_ms}",
        ),
    ]


def ray_row(rounds: Sequence[Mapping[str, float]]) -> Row:
    """Of one core, what all of Ray's processes but the one that trains take while it trains."""
    names = {kind for of in rounds for kind in of}
    kinds = {kind: median(of.get(kind, 0.0) for of in rounds) for kind in names}
    greatest = sorted(names, key=lambda kind: (-kinds[kind], kind))
    note = ", ".join(f"{kind} {kinds[kind]:.3f}" for kind in greatest if kinds[kind] >= LEAST_SHARE)
    return Row("ray_cpu_share", median(sum(of.values()) for of in rounds), "–", f"of a core: {note or 'little each'}")


def _share_row(rates: Rounds, work: Work) -> Row:
    """Of what the machine does at most: operations a second of ours, to those of large matrix products."""
    ours, products = (median(rates[name]) for name in ("ours", "products"))
    return Row(
        "share_of_products",
        _ratio(rates, "ours", "products") * work.sample * BATCH_SIZE / work.product,
        "–",
        f"{work.sample / 1e9:.2f} GFLOP a sample, {ours * work.sample / 1e9:,.0f} GFLOP/s; large matrix products "
        f"{products / BATCH_SIZE * work.product / 1e9:,.0f}",
    )


def _compiled_rows(rates: Rounds, bar: str) -> list[Row]:
    """Of our loop with `--resources.compile true`, if there is a compiler; its start is not timed."""
    if COMPILED not in rates:
        return []
    rate, plain, ours = (median(rates[name]) for name in (COMPILED, "plain", "ours"))
    of = f"{rate:,.1f} samples/s with --resources.compile true"
    return [
        Row("compiled_vs_plain_loop", _ratio(rates, COMPILED, "plain"), bar, f"{of}, plain loop {plain:,.1f}"),
        Row("compiled_vs_ours", _ratio(rates, COMPILED, "ours"), "–", f"{of}, {ours:,.1f} without"),
    ]


def _ratio(rounds: Rounds, ours: str, theirs: str) -> float:
    return median(mine / other for mine, other in zip(rounds[ours], rounds[theirs], strict=True))


if __name__ == "__main__":
    sys.exit(main())
