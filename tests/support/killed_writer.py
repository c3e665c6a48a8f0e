"""A recorder killed at any byte, and at any system call that counts: `python -m tests.support.killed_writer FOLDER`.

Forks a process for each point, lets the kernel kill it there, and tells on standard output what it left. A process
apart, without threads, so that forking is safe and fast.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from lapa_ray.core.errors import LapaError
from lapa_ray.core.frames import NO_ACTION
from lapa_ray.dataset.shards import EpisodeRows, read_shards, shard_paths
from lapa_ray.dataset.writer import FrameWriter
from tests.support.counter_env import CounterEnv

LENGTHS = [1, 3, 140, 6, 20, 160]
"""Steps of each episode; a shard each, so that at any size some are smaller and some larger."""


def record(folder: Path, episode_ids: Iterable[int]) -> None:
    """Record episodes whose content follows from their ids, and die without a word if told to."""
    env = CounterEnv(height=2)
    with FrameWriter(folder, env.info, "player", "counter", rows_per_shard=1) as writer:
        for episode_id in episode_ids:
            generator = np.random.default_rng(episode_id)
            env.length = LENGTHS[episode_id]
            step = env.reset(episode_id)
            writer.begin_episode(episode_id)
            writer.append(NO_ACTION, step.frames, terminated=False, truncated=False)
            while not step.is_last:
                step = env.step(int(generator.integers(5)))
                step.frames.screens[:, 1] = generator.integers(0, 256, step.frames.screens.shape[::2])
                writer.append(0, step.frames, step.terminated, step.truncated)
            writer.end_episode()


def content(folder: Path) -> dict[int, bytes]:
    """Episode id → all its bytes. Raises `LapaError` where the folder does not open."""
    shards = shard_paths(folder)
    _, episodes = read_shards(shards) if shards else (None, {})
    return {episode_id: _bytes(rows) for episode_id, rows in episodes.items()}


def _bytes(rows: EpisodeRows) -> bytes:
    parts = [*rows.columns.values(), rows.ram(), *rows.screens()]
    return b"".join(part.tobytes() for part in parts if part is not None)


def die_at_byte(limit: int) -> None:
    """Have the kernel kill this process when a file of it grows beyond `limit` bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def die_at_call(owner: object, name: str, number: int, *, before: bool) -> None:
    """Kill this process at the `number`th call of a function."""
    plain, calls = getattr(owner, name), []

    def deadly(*arguments: object) -> object:
        calls.append(None)
        if before and len(calls) > number:
            os.kill(os.getpid(), signal.SIGKILL)
        result = plain(*arguments)
        if len(calls) > number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, deadly)


def killed(folder: Path, arm: Callable[[], None]) -> int:
    """Record in a process that `arm` makes mortal; returns the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            arm()
            record(folder, range(len(LENGTHS)))
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def points(shard_sizes: list[int]) -> dict[str, Callable[[], None]]:
    """Where to kill: bytes spread over all sizes of shards, each byte near their ends, each call that puts in place."""
    spread = np.unique(np.geomspace(1, max(shard_sizes), 50).astype(int)).tolist()
    ends = [size - back for size in shard_sizes for back in (1, 2, 5, 9, 40, 400, 1000)]
    found: dict[str, Callable[[], None]] = {
        f"byte {limit}": lambda limit=limit: die_at_byte(limit) for limit in sorted({*spread, *ends}) if limit >= 0
    }
    for owner, name in ((os, "fsync"), (Path, "replace")):
        for number in range(len(LENGTHS)):
            for before in (True, False):
                found[f"{'before' if before else 'after'} {name} {number}"] = (
                    lambda owner=owner, name=name, number=number, before=before: die_at_call(
                        owner, name, number, before=before
                    )
                )
    return found


def main(base: Path) -> None:
    record(base / "whole", range(len(LENGTHS)))
    expected = content(base / "whole")
    sizes = [path.stat().st_size for path in shard_paths(base / "whole")]
    for number, (point, arm) in enumerate(points(sizes).items()):
        folder = base / str(number)
        folder.mkdir()
        status = killed(folder, arm)
        told = {"point": point, "signal": -status, "expected": sorted(expected)}
        try:
            left = content(folder)
            told |= {"left": sorted(left), "left_right": all(left[i] == expected[i] for i in left)}
            record(folder, [i for i in expected if i not in left])
            told["resumed_right"] = content(folder) == expected
        except LapaError as error:
            told["error"] = str(error)
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
