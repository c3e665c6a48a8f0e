"""Seconds and peak memory of each stage of the quick chain: `lapa-ray demo`, run as a user would, and watched.

One process and one Ray for all stages, as in the demo, so a stage's memory includes what the ones before it left
behind. Memory is that of the whole process tree (Ray's processes and workers too), see `benchmarks._memory`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks._memory import PeakMemory
from benchmarks._result import Cell, print_result

CONFIGS = Path(__file__).parents[1] / "tune_configs"
STAGE_LINE = re.compile(r"\[\d+/\d+\] (\S+)")
START, TOTAL = "start of Ray", "all"


@dataclass(frozen=True)
class Phase:
    """One stage as it was watched."""

    name: str
    seconds: float
    peak_bytes: int


def main() -> int:
    """Run the chain, print a row a stage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a chain of seconds (tune_configs/micro), not of minutes")
    folder = "micro" if parser.parse_args().quick else "quick"
    with tempfile.TemporaryDirectory(prefix="lapa-bench-") as scratch:
        phases = watch(Path(scratch) / "demo", CONFIGS / folder)
    report(phases)
    return 0


def report(phases: list[Phase]) -> None:
    """Print the table and the JSON."""
    whole = Phase(TOTAL, sum(p.seconds for p in phases), max(p.peak_bytes for p in phases))
    rows: list[dict[str, Cell]] = [
        {"stage": p.name, "seconds": p.seconds, "peak memory MB": p.peak_bytes / 1e6} for p in (*phases, whole)
    ]
    figures: dict[str, float] = {}
    for phase in (*phases, whole):
        key = re.sub(r"\W+", "_", phase.name)
        figures |= {f"{key}_seconds": round(phase.seconds, 2), f"{key}_peak_mb": round(phase.peak_bytes / 1e6, 1)}
    print_result("demo", rows, figures)


def watch(out: Path, configs: Path) -> list[Phase]:
    """Run `lapa-ray demo` into `out` and measure between the lines by which it announces its stages."""
    command = [sys.executable, "-m", "lapa_ray.cli", "demo", "--out", str(out), "--configs", str(configs)]
    marks = [(START, time.monotonic())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, PeakMemory(process.pid) as memory:
        memory.phase = START
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", file=sys.stderr)
            if stage := STAGE_LINE.match(line):
                memory.phase = stage[1]
                marks.append((stage[1], time.monotonic()))
    if process.returncode != 0:
        raise SystemExit(
            f"benchmarks.demo: lapa-ray demo ended with exit code {process.returncode}; nothing to report."
        )
    ends = [when for _, when in marks[1:]] + [time.monotonic()]
    return [Phase(n, end - begun, memory.peaks.get(n, 0)) for (n, begun), end in zip(marks, ends, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
