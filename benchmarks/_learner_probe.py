"""What the choices of a learner on a CPU rest on: `python -m benchmarks._learner_probe [--quick]`, on a quiet machine.

CPU time of a batch on its way from the replay server to the learner, by process and by batches a message; and the rate
of a plain update by number format, layout and threads.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import psutil
import ray

from benchmarks._result import keep_to_two_cores
from benchmarks._update_floor import WAYS, filled_server, plain_rate
from lapa_ray.actors.cluster import ray_session
from lapa_ray.core.config import RayConfig

OF_NODE = ("raylet", "gcs_server")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks._learner_probe")
    parser.add_argument("--quick", action="store_true")
    num_batches, num_updates = (40, 3) if parser.parse_args().quick else (1_200, 60)
    keep_to_two_cores()
    print("CPU ms a batch of 32 (2 MB): server, this process, Ray's node processes")
    with ray_session(RayConfig(num_cpus=2, object_store_mb=200)):
        for num_a_message in (1, 4):
            spent = _message_ms(num_a_message, num_batches)
            print(f"  {num_a_message} a message: " + "  ".join(f"{ms:.1f}" for ms in spent))
    print("updates/s of a plain update, one thread and two")
    for dtype, layout in WAYS:
        rates = [plain_rate(dtype, layout, num_threads, num_updates) for num_threads in (1, 2)]
        print(f"  {dtype}, {layout}: " + "  ".join(f"{rate:.1f}" for rate in rates))


def _message_ms(num_a_message: int, num_batches: int) -> list[float]:
    server = filled_server(2 * num_batches)
    try:
        for _ in _batches(server, num_a_message, num_a_message * 4):
            pass
        processes = _processes(server)
        before = [_cpu_s(group) for group in processes]
        for batch in _batches(server, num_a_message, num_batches):
            del batch
        after = [_cpu_s(group) for group in processes]
    finally:
        ray.kill(server)
    return [1000 * (end - start) / num_batches for start, end in zip(before, after, strict=True)]


def _batches(server: Any, num_a_message: int, count: int) -> Iterator[Any]:
    """Each message asked for while the one before is used, as the learner does."""
    asked = server.sample_many.remote(0, num_a_message)
    for _ in range(count // num_a_message - 1):
        ready, asked = asked, server.sample_many.remote(0, num_a_message)
        yield from ray.get(ready)
    yield from ray.get(asked)


def _processes(server: Any) -> tuple[list[psutil.Process], ...]:
    """The server's, this one, and Ray's own of this node."""
    pid = ray.get(server.__ray_call__.remote(_pid_of))
    children = psutil.Process().children(recursive=True)
    node = [process for process in children if process.name() in OF_NODE]
    return [psutil.Process(pid)], [psutil.Process()], node


def _pid_of(_server: Any) -> int:
    return psutil.Process().pid


def _cpu_s(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


if __name__ == "__main__":
    main()
