"""Ray, started and stopped: a bounded local instance, or the cluster at RAY_ADDRESS.

Knows nothing of what runs on it. Every stage enters `ray_session`; a stage inside another session joins it.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError

from lapa_ray.actors.cluster_address import check_reachable, cluster_address, unreachable
from lapa_ray.actors.faults import worker_faults_named
from lapa_ray.core.config import Device, RayConfig
from lapa_ray.core.errors import LapaError
from lapa_ray.core.stop import stop_on_signal

RESOURCE_LINE_PERIOD_S = 30.0
UNSEEN = {"RAY_enable_metrics_collection": "0", "RAY_task_events_report_interval_ms": "0"}
"""What a Ray without a dashboard need not gather, since nobody sees it: each of its processes wakes for that."""
STARTING = "Stopping once Ray has started (again to stop at once) ..."


@contextmanager
def ray_session(config: RayConfig) -> Iterator[None]:
    """Ray for the length of the block, stopped on every way out. Joins a session that this process already has.

    Raises `LapaError` within seconds if RAY_ADDRESS names a cluster that does not answer, and in place of Ray's
    errors where a worker raised it.
    """
    if ray.is_initialized():
        with worker_faults_named():
            yield
        return
    address = cluster_address()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with _ctrl_c_waits():
            if address is None:
                _start_local(config)
            else:
                _connect(address)
        if handler != signal.SIG_DFL:
            _handle_sigterm(handler)
        with worker_faults_named():
            yield
    finally:
        ray.shutdown()
        _handle_sigterm(handler)


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Let Ctrl-C wait until Ray is up: one that has half started cannot be stopped whole."""
    is_handled = signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    with nullcontext() if is_handled else stop_on_signal(signal.SIGINT, said=STARTING) as stop:
        yield
    if stop:
        raise KeyboardInterrupt


def _handle_sigterm(handler: Any) -> None:
    """Take back what Ray made of SIGTERM, which ends the process: a stage saves a checkpoint first."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def num_gpus(device: Device, num_workers: int = 1) -> int:
    """GPUs to reserve for `num_workers`: one each where CUDA is asked for, or there for the taking."""
    if device == "auto":
        return num_workers if ray.cluster_resources().get("GPU", 0) >= num_workers else 0
    return num_workers if device == "cuda" else 0


def require_resources(*, cpus: float, gpus: float = 0.0, timeout_s: float | None = None) -> None:
    """Wait until the cluster has room in all for `cpus` and `gpus`, telling so every 30 s.

    A local Ray cannot grow, so there a lack is a `LapaError` at once; elsewhere after `timeout_s` (None: never). A
    cluster without any GPU refuses a run that asks for one at once: it is a cluster of another kind, and an autoscaler
    that could add GPU nodes would not be asked by waiting.
    """
    start = last_line = time.monotonic()
    while lack := _lack(cpus, gpus):
        waited = time.monotonic() - start
        if cluster_address() is None or (timeout_s is not None and waited > timeout_s):
            raise LapaError(f"Ray: {lack}; ask for fewer workers, or raise --ray.num_cpus or the cluster's size.")
        if gpus and not ray.cluster_resources().get("GPU", 0):
            raise LapaError(
                f"Ray: need {gpus:g} GPU, and no node of the cluster has one; give --resources.device auto or cpu, or "
                "add a GPU node first."
            )
        if time.monotonic() - last_line >= RESOURCE_LINE_PERIOD_S:
            last_line = time.monotonic()
            print(f"Waiting for the cluster ({waited:.0f} s): {lack}.", file=sys.stderr, flush=True)
        time.sleep(0.5)


def wait_for_actors(actors: Sequence[Any], should_stop: Callable[[], bool]) -> None:
    """Wait until the cluster has placed and started `actors`, telling every 30 s what is lacking.

    Room in all, which `require_resources` looks at, may be taken by others, or in pieces too small. Raises Ray's error
    for an actor whose creation fails; one that is killed meanwhile is told of by its first call.
    """
    starting = [actor.__ray_ready__.remote() for actor in actors]
    start = last_line = time.monotonic()
    while starting and not should_stop():
        started, starting = ray.wait(starting, num_returns=len(starting), timeout=0.5)
        _check_created(started)
        if starting and time.monotonic() - last_line >= RESOURCE_LINE_PERIOD_S:
            last_line = time.monotonic()
            free = ", ".join(f"{ray.available_resources().get(name, 0):g} {name}" for name in ("CPU", "GPU"))
            what = f"{len(starting)} of {len(actors)} actors have not started"
            print(
                f"Waiting for the cluster ({last_line - start:.0f} s): {what}; free: {free}.",
                file=sys.stderr,
                flush=True,
            )


def _check_created(started: Sequence[ray.ObjectRef]) -> None:
    for reference in started:
        try:
            ray.get(reference)
        except RayActorError as error:
            if error.actor_init_failed:
                raise


def _lack(cpus: float, gpus: float) -> str:
    have = ray.cluster_resources()
    needs = {"CPU": cpus, "GPU": gpus}
    short = [f"need {need:g} {name}, have {have.get(name, 0):g}" for name, need in needs.items()]
    return ", ".join(text for (name, need), text in zip(needs.items(), short, strict=True) if need > have.get(name, 0))


def _start_local(config: RayConfig) -> None:
    for name, value in UNSEEN.items():
        os.environ.setdefault(name, value)
    ray.init(
        address="local",
        num_cpus=config.num_cpus,
        object_store_memory=_object_store_bytes(config.object_store_mb),
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    _make_token_private()


def _connect(address: str) -> None:
    check_reachable(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:
        raise unreachable(address, str(error).splitlines()[0] if str(error) else repr(error)) from error


def _object_store_bytes(megabytes: int) -> int:
    """The bound, less where shared memory is small: beyond it Ray would fall back to slow files with a warning."""
    wanted = megabytes * 10**6
    shared_memory = Path("/dev/shm")
    if not shared_memory.exists():
        return wanted
    return max(80 * 10**6, min(wanted, int(shutil.disk_usage(shared_memory).free * 0.9)))


def _make_token_private() -> None:
    """Ray writes its authentication token world-readable; other users of the machine have no business with it."""
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
    if token.is_file() and token.stat().st_mode & 0o077:
        token.chmod(0o600)
