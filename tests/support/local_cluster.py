"""A real Ray cluster of one node with a dashboard, as `ray start --head` makes it; on ports and in a folder of its own.

`ray stop` would stop every Ray of the machine: this one is ended by its own process instead.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class LocalCluster:
    """Addresses of the running cluster and the environment that its clients need."""

    address: str
    dashboard: str
    client_port: int
    environment: dict[str, str]

    def submit(self, *command: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """`ray job submit -- COMMAND`, with all its output in `stdout`; tried again while Ray says to try later."""
        submit = [BIN / "ray", "job", "submit", f"--address={self.dashboard}", "--", *command]
        end = time.monotonic() + 60
        done = run(submit, self.environment, timeout_s)
        while "No available agent to submit job" in done.stdout and time.monotonic() < end:
            time.sleep(1)
            done = run(submit, self.environment, timeout_s)
        return done


def run(command: list, environment: dict[str, str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@contextmanager
def local_cluster(num_cpus: int = 2) -> Iterator[LocalCluster]:
    folder = Path(tempfile.mkdtemp(prefix="lapa-"))  # short: Ray's sockets lie in it, and their paths are bounded
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text("0123456789abcdef" * 4)
    environment = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_COLOR_PREFIX": "0",
    }
    port, dashboard_port, client_port = free_port(), free_port(), free_port()
    command = [
        *(BIN / "ray", "start", "--head", "--block", "--disable-usage-stats", "--node-ip-address=127.0.0.1"),
        *(f"--port={port}", f"--dashboard-port={dashboard_port}", "--dashboard-host=127.0.0.1"),
        # Those with fixed defaults, which another Ray of this machine may hold: without its agent no job starts.
        *(f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={client_port}"),
        *(f"--temp-dir={folder / 'ray'}", f"--num-cpus={num_cpus}", "--object-store-memory=150000000"),
    ]
    with (folder / "head.log").open("w+") as log:
        head = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for(dashboard_port, head, folder / "head.log")
            yield LocalCluster(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard_port}", client_port, environment)
        finally:
            head.terminate()
            head.wait(timeout=60)
            shutil.rmtree(folder, ignore_errors=True)


def wait_for(port: int, head: subprocess.Popen, log: Path, timeout_s: float = 90) -> None:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end and head.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"ray start --head did not come up:\n{log.read_text()}")
