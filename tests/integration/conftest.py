"""The micro chain, made once a session by real processes and broken off twice; other tests read what it wrote."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from tests.support.local_cluster import local_cluster

ROOT = Path(__file__).parents[2]
MICRO = ROOT / "tune_configs" / "micro"


@dataclass(frozen=True)
class Ended:
    """A command that ended, or was ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Chain:
    """The folder of the chain's artefacts, and how the commands that made it ended."""

    folder: Path
    environment: dict[str, str]
    ended: dict[str, Ended] = field(default_factory=dict)
    seen: dict[str, dict[str, int]] = field(default_factory=dict)
    """What files said on the way."""

    def run(
        self, name: str, *arguments: str, end_by: signal.Signals | None = None, when: Callable[[], bool] = bool
    ) -> None:
        """Run `lapa-ray ARGUMENTS` and note how it ended as `name`; `end_by` is sent as soon as `when` is true."""
        command = [sys.executable, "-m", "lapa_ray.cli", *map(str, arguments)]
        with subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                if end_by is not None:
                    wait_until(when, process)
                    process.send_signal(end_by)
                out, err = process.communicate(timeout=200)
            finally:
                process.kill()
        self.ended[name] = Ended(process.returncode, out, err)

    def stage(self, name: str, stage: str, out: str, *arguments: str, **ending) -> None:
        """Run one stage of the chain with its micro config."""
        config = f"--config={MICRO / stage}.yaml"
        self.run(name, stage.replace("_", "-"), config, f"--out={self.folder / out}", *arguments, **ending)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    end = time.monotonic() + 120
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


@pytest.fixture(scope="session")
def chain(tmp_path_factory) -> Chain:
    """Made by whichever test process needs it first; the others wait for it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    told = shared / "chain.json"
    with (shared / "chain.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not told.exists():
            told.write_text(json.dumps(asdict(made_chain(shared / "chain")), default=str))
    said = json.loads(told.read_text())
    ended = {name: Ended(**how) for name, how in said.pop("ended").items()}
    return Chain(**said | {"folder": Path(said["folder"]), "ended": ended})


def made_chain(folder: Path) -> Chain:
    folder.mkdir()
    with local_cluster() as cluster:
        environment = cluster.environment | {"RAY_ADDRESS": cluster.address, "OMP_NUM_THREADS": "1"}
        chain = Chain(folder, environment)
        make_chain(chain)
    return chain


def make_chain(chain: Chain) -> None:
    checkpoint = chain.folder / "agent" / "checkpoints" / "latest.json"
    chain.stage("train-dqn killed", "train_dqn", "agent", end_by=signal.SIGKILL, when=checkpoint.exists)
    chain.seen["checkpoint of the killed train-dqn"] = json.loads(checkpoint.read_text())
    chain.stage("train-dqn unasked", "train_dqn", "agent")
    chain.stage("train-dqn", "train_dqn", "agent", "--resume")
    chain.stage("record", "record", "frames", f"--agent={chain.folder / 'agent'}")
    begun = chain.folder / "vqvae" / "checkpoints" / "last.pt"
    frames = f"--frames={chain.folder / 'frames'}"
    chain.stage("train-vqvae stopped", "train_vqvae", "vqvae", frames, end_by=signal.SIGINT, when=begun.exists)
    chain.run("demo", "demo", f"--out={chain.folder}", f"--configs={MICRO}")
