"""Checkpoints of a training run: learner, limiter, counters and replay buffer to files, and the newest back.

A checkpoint is whole once `latest.json` names it: that is written last. The two newest are kept, one replay buffer.
The server writes its own snapshot, 7 GB at full size, so it has to run on the node whose disk this is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lapa_ray.actors.run_log import Counters
from lapa_ray.actors.worker_pool import result_of
from lapa_ray.core.errors import LapaError
from lapa_ray.core.files import write_json
from lapa_ray.models.checkpoint import save_checkpoint
from lapa_ray.replay.snapshot import delete_states

LATEST = "latest.json"
NUM_KEPT = 2


class Checkpoints:
    """The folder `checkpoints/` of an agent artefact."""

    def __init__(self, folder: Path, *, use_per: bool, with_replay: bool, config: dict[str, Any]) -> None:
        """`config` is written into each checkpoint, so that the file explains itself."""
        self._folder, self._with_replay, self._config = folder, with_replay, config
        self._suffix = "PER" if use_per else "NoPER"

    def save(self, learner: Any, server: Any, counters: Counters) -> None:
        """Write a checkpoint; neither updates nor rollouts may be under way. Older ones go once it is whole."""
        self._folder.mkdir(parents=True, exist_ok=True)
        name = _name(counters.num_updates)
        if self._with_replay:
            result_of(server.save.remote(self._folder, name), "replay server")
        state = {
            "learner": result_of(learner.get_state.remote(), "learner"),
            "limiter": result_of(server.counts.remote(), "replay server"),
            "counters": counters.as_dict(),
            "config": json.dumps(self._config),
        }
        save_checkpoint(self._path(counters.num_updates), state)
        write_json(self._folder / LATEST, counters.as_dict())
        delete_states(self._folder, keep=name)
        for old in sorted(self._folder.glob("*.pth"))[:-NUM_KEPT]:
            old.unlink()

    def load(self, learner: Any, server: Any) -> Counters:
        """Bring learner and server to the newest checkpoint; counters at 0 if there is none yet.

        Raises `LapaError` that names the file if one is damaged or does not fit.
        """
        counters = self.newest()
        if counters is None:
            return Counters()
        limiter = result_of(learner.load.remote(self._path(counters.num_updates)), "learner")["limiter"]
        if not result_of(server.load.remote(self._folder, _name(counters.num_updates)), "replay server"):
            result_of(server.restart.remote(limiter), "replay server")
        return counters

    def newest(self) -> Counters | None:
        """Counters of the newest checkpoint, if there is one. Raises `LapaError` if its note is damaged."""
        latest = self._folder / LATEST
        return _read_counters(latest) if latest.exists() else None

    def forget_replay(self) -> None:
        """Delete the replay buffer, which a finished run needs no more."""
        delete_states(self._folder)

    def _path(self, num_updates: int) -> Path:
        return self._folder / f"{_name(num_updates)}_{self._suffix}.pth"


def _name(num_updates: int) -> str:
    return f"update-{num_updates:010d}"


def _read_counters(path: Path) -> Counters:
    try:
        return Counters(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise LapaError(f"{path}: damaged ({error}); start again in another --out.") from error
