"""Collection: agent steps/s of one core that steps our environments, without a network, beside its peers.

Each player has a process of its own, all of them on one core, of which one plays at a time. Every ratio is of one run:
rounds alternate, and the median of the rounds' ratios counts. A peer's step in which it begins a new game by itself
counts as one of its steps.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import Connection
from statistics import median
from types import TracebackType
from typing import Self

import cv2
from ale_py import ALEInterface, LoggerMode

from benchmarks._players import ACT_LOOP, GYMNASIUM, OURS, OURS_RECORDING, PEERS, PLAYERS, package_of
from benchmarks._result import Cell, print_result

WARM_UP_STEPS = 600
"""More than a game's beginning, in which nothing moves and no row group is written."""
BARS = {"vs_best_peer": 1.05, "vs_best_peer_recording": 0.75, "vs_gymnasium": 1.5, "vs_act_loop": 0.85}

Rates = dict[str, list[float]]
"""Player → agent steps/s of each round."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    num_rounds: int = 9
    steps_a_round: int = 4000


QUICK = Size(num_rounds=3, steps_a_round=500)


def main() -> int:
    """Measure, print a row a player and a row a figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.collect", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes: fewer and shorter rounds")
    size = QUICK if parser.parse_args().quick else Size()
    if find_spec("envpool") is None:
        raise SystemExit("benchmarks.collect: EnvPool is missing; install the extra: pip install 'lapa-ray[bench]'.")
    rates = measure(size)
    ratios = figures(rates)
    print_result("collect", table(rates, ratios), {name: round(value, 4) for name, value in ratios.items()})
    return 0


def measure(size: Size) -> Rates:
    """Let all play in turns."""
    core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    rates: Rates = {name: [] for name in PLAYERS}
    with ExitStack() as stack:
        pinned = {name: stack.enter_context(PinnedPlayer(name, core)) for name in PLAYERS}
        for number in range(size.num_rounds):
            print(f"round {number + 1} of {size.num_rounds} ...", file=sys.stderr, flush=True)
            for name, player in pinned.items():
                rates[name].append(player.rate(size.steps_a_round))
    return rates


def figures(rates: Rates) -> dict[str, float]:
    """The ratios that have bars."""
    best = best_peer(rates)
    return {
        "vs_best_peer": median_ratio(rates, OURS, best),
        "vs_best_peer_recording": median_ratio(rates, OURS_RECORDING, best),
        "vs_gymnasium": median_ratio(rates, OURS, GYMNASIUM),
        "vs_act_loop": median_ratio(rates, OURS, ACT_LOOP),
    }


def best_peer(rates: Rates) -> str:
    """The peer of the greatest median."""
    return max(PEERS, key=lambda name: median(rates[name]))


def median_ratio(rates: Rates, ours: str, theirs: str) -> float:
    """Median of the rounds' ratios."""
    return median(mine / other for mine, other in zip(rates[ours], rates[theirs], strict=True))


def table(rates: Rates, ratios: dict[str, float]) -> list[dict[str, Cell]]:
    """A row a player, then a row a figure."""
    players: list[dict[str, Cell]] = [
        {
            "what": name,
            "value": median(found),
            "unit": "steps/s",
            "bar": "",
            "of": f"{package_of(name)}; rounds from {min(found):,.0f} to {max(found):,.0f}",
        }
        for name, found in rates.items()
    ]
    of = {"vs_best_peer": best_peer(rates), "vs_best_peer_recording": best_peer(rates)}
    of |= {"vs_gymnasium": GYMNASIUM, "vs_act_loop": ACT_LOOP}
    return players + [
        {"what": name, "value": value, "unit": "×", "bar": f"≥ {BARS[name]:g}", "of": of[name]}
        for name, value in ratios.items()
    ]


class PinnedPlayer:
    """A player in a process of its own."""

    def __init__(self, name: str, core: int | None) -> None:
        """`core`: the one to keep to, where the system lets us choose."""
        context = multiprocessing.get_context("spawn")
        self._name = name
        self._here, there = context.Pipe()
        self._process = context.Process(target=serve, args=(there, name, core), daemon=True)
        self._process.start()
        there.close()
        self._answer()

    def rate(self, num_steps: int) -> float:
        """Agent steps/s over `num_steps` steps."""
        self._here.send(num_steps)
        return self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._here.close()
        self._process.join(10)
        self._process.kill()

    def _answer(self) -> float:
        try:
            answer: float = self._here.recv()
        except EOFError:
            raise SystemExit(f"benchmarks.collect: the process of {self._name} has died; see above.") from None
        return answer


def serve(connection: Connection, name: str, core: int | None) -> None:
    """What the process does: play as many steps as it is told, and tell how fast, until the connection is closed."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    cv2.setNumThreads(1)
    ALEInterface.setLoggerMode(LoggerMode.Error)
    with closing(PLAYERS[name]()) as player, suppress(EOFError):
        num_steps = WARM_UP_STEPS
        while True:
            start = time.perf_counter()
            player.play(num_steps)
            connection.send(num_steps / (time.perf_counter() - start))
            num_steps = connection.recv()


if __name__ == "__main__":
    sys.exit(main())
