"""`train-dqn` beside RLlib's DQN and Stable-Baselines3's: whole training, 8-stacks, batch 32, one update per 4 steps.

Every ratio is of one run: rounds of the sides alternate, and the median of the rounds' ratios counts. All sides play
and learn on the same two cores. The floor is the update alone, on both cores, as fast as this machine makes it (the
faster of float32 with channels last and bfloat16), playing as if it were free: steps/s can be no more than four times
its updates/s.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import _dqn_peers, _update_floor
from benchmarks._dqn_peers import STEPS_PER_UPDATE, RateOf
from benchmarks._result import Row, keep_to_two_cores, print_rows, say
from benchmarks._training import train
from lapa_ray.actors.cluster import ray_session
from lapa_ray.actors.exploration import ExplorationConfig
from lapa_ray.actors.learner import LearnerResources
from lapa_ray.actors.rollout_worker import WorkerConfig
from lapa_ray.core.config import RayConfig
from lapa_ray.models.device import resolve_device

LOGICAL_CPUS = 4
"""What RLlib keeps reserved beside what ours reserves."""
OPTIONS: dict[str, Any] = {
    "no_save": True,
    "exploration": ExplorationConfig(base=0.1, decay_steps=1),
    "resources": LearnerResources(device="cpu", channels_last=True),
}
"""As the peers play: ε 0.1, nothing recorded; and the layout that is fastest here."""


@dataclass(frozen=True)
class Size:
    """How much is measured: rounds, and agent steps a round of each side."""

    num_rounds: int = 5
    num_steps: int = 1_500
    sb3_steps: int = 1_000
    rllib_steps: int = 300
    num_updates: int = 100


QUICK = Size(num_rounds=1, num_steps=600, sb3_steps=100, rllib_steps=100, num_updates=10)
Rounds = dict[str, list[float]]


def main() -> int:
    """Measure, print a row a figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short round a side instead of five")
    size = QUICK if parser.parse_args().quick else Size()
    keep_to_two_cores()
    resolve_device("cpu")  # before any layer of a peer: what oneDNN may use is settled once a process
    with tempfile.TemporaryDirectory(prefix="lapa-bench-") as scratch:
        rounds = measure(Path(scratch), size)
    print_rows("train", rows(rounds))
    return 0


def measure(folder: Path, size: Size) -> Rounds:
    """Rates of every side, a round each."""
    rounds: Rounds = {name: [] for name in ("ours", "two_workers", "rllib", "sb3", "floor", "overhead")}
    with (
        ray_session(RayConfig(num_cpus=LOGICAL_CPUS)),
        _dqn_peers.rllib() as rllib,
        _dqn_peers.stable_baselines() as sb3,
    ):
        for index in range(size.num_rounds):
            say(f"round {index + 1} of {size.num_rounds}")
            _round(rounds, folder / str(index), size, rllib, sb3)
    return rounds


def _round(rounds: Rounds, folder: Path, size: Size, rllib: RateOf, sb3: RateOf) -> None:
    rounds["ours"].append(train(folder / "one", size.num_steps, workers=WorkerConfig(num_workers=1), **OPTIONS))
    rounds["two_workers"].append(train(folder / "two", size.num_steps, workers=WorkerConfig(num_workers=2), **OPTIONS))
    rounds["sb3"].append(sb3(size.sb3_steps))
    rounds["rllib"].append(rllib(size.rllib_steps))
    rounds["floor"].append(STEPS_PER_UPDATE * _update_floor.updates_per_s(size.num_updates))
    rounds["overhead"].append(_update_floor.learner_overhead(size.num_updates))


def rows(rounds: Rounds) -> list[Row]:
    """The table: each figure, its bar, and the medians that it is made of."""
    steps = {name: median(rates) for name, rates in rounds.items()}
    ours = f"{steps['ours']:,.0f} agent steps/s"
    return [
        Row("vs_rllib", _ratio(rounds, "ours", "rllib"), "≥ 6", f"{ours}, RLlib {steps['rllib']:,.1f}"),
        Row("vs_sb3", _ratio(rounds, "ours", "sb3"), "≥ 1.6", f"{ours}, Stable-Baselines3 {steps['sb3']:,.0f}"),
        Row("vs_update_floor", _ratio(rounds, "ours", "floor"), "≥ 0.75", f"{ours}, floor {steps['floor']:,.0f}"),
        Row("learner_overhead", steps["overhead"], "≤ 0.10", "share of an update's time that is not the update"),
        Row("two_workers", _ratio(rounds, "two_workers", "ours"), "–", f"{steps['two_workers']:,.0f} with 2 workers"),
    ]


def _ratio(rounds: Rounds, ours: str, theirs: str) -> float:
    return median(mine / other for mine, other in zip(rounds[ours], rounds[theirs], strict=True))


if __name__ == "__main__":
    sys.exit(main())
