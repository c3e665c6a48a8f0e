"""Checkpoints of a training run: learner, limiter, counters, log and replay buffer to files, and the newest back.

A checkpoint is whole once `latest.json` names it: that is written last. The two newest are kept, one replay buffer.
The server writes its own snapshot, 7 GB at full size, so it has to run on the node whose disk this is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from lapa_ray.actors.replaceable import Replaceable
from lapa_ray.actors.run_log import Counters
from lapa_ray.core.errors import DivergedError, LapaError
from lapa_ray.core.files import remove_leftovers, write_json
from lapa_ray.models.checkpoint import load_checkpoint, save_checkpoint
from lapa_ray.replay.snapshot import delete_states

LATEST = "latest.json"
NUM_KEPT = 2


class Checkpoints:
    """The folder `checkpoints/` of an agent artefact."""

    def __init__(self, folder: Path, *, use_per: bool, with_replay: bool, config: dict[str, Any]) -> None:
        """`config` is written into each checkpoint, so that the file explains itself."""
        self._folder, self._with_replay, self._config = folder, with_replay, config
        self._suffix = "PER" if use_per else "NoPER"

    def save(self, server: Replaceable, learner: dict[str, Any], counters: Counters, run: dict[str, Any]) -> None:
        """Write a checkpoint of `server`, the states of `learner` and `run`; nothing may be under way.

        Older ones go once it is whole. Raises `DivergedError`, and leaves them, if a weight is not a number.
        """
        _check_finite(learner)
        self._folder.mkdir(parents=True, exist_ok=True)
        name = _name(counters)
        if self._with_replay:
            server.ask("save", self._folder, name)
        limiter = server.ask("status").counts
        state = {"learner": learner, "limiter": limiter, "run": run, "config": json.dumps(self._config)}
        save_checkpoint(self._path(counters), state)
        write_json(self._folder / LATEST, counters.as_dict())
        delete_states(self._folder, keep=name)
        for old in sorted(self._folder.glob("*.pth"))[:-NUM_KEPT]:
            old.unlink()

    def load_learner(self, learner: Replaceable) -> int:
        """Bring a learner to the newest checkpoint, if there is one; returns its updates.

        Raises `LapaError` that names the file if it is damaged or does not fit.
        """
        counters = self.newest()
        if counters is None:
            return 0
        learner.ask("load", self._path(counters))
        return counters.num_updates

    def load_server(self, server: Replaceable) -> None:
        """Bring an empty server to the newest checkpoint, if there is one; its buffer may be missing.

        Raises `LapaError` that names the file if it is damaged or does not fit.
        """
        remove_leftovers(self._folder)
        counters = self.newest()
        if counters is not None and not server.ask("load", self._folder, _name(counters)):
            limiter = load_checkpoint(self._path(counters))["limiter"]
            server.ask("go_on", limiter, counters.num_steps, counters.num_updates)

    def load_run(self) -> dict[str, Any] | None:
        """The state of the run that the newest checkpoint was saved with, if there is one."""
        counters = self.newest()
        return None if counters is None else load_checkpoint(self._path(counters))["run"]

    def newest(self) -> Counters | None:
        """Counters of the newest checkpoint, if there is one. Raises `LapaError` if its note is damaged."""
        latest = self._folder / LATEST
        return _read_counters(latest) if latest.exists() else None

    def newest_path(self) -> Path | None:
        """The file of the newest checkpoint, if there is one."""
        counters = self.newest()
        return None if counters is None else self._path(counters)

    def forget_replay(self) -> None:
        """Delete the replay buffer, which a finished run needs no more."""
        delete_states(self._folder)

    def _path(self, counters: Counters) -> Path:
        return self._folder / f"{_name(counters)}_{self._suffix}.pth"


def _check_finite(learner: dict[str, Any]) -> None:
    for part in ("network", "target"):
        for name, value in learner[part].items():
            if not torch.isfinite(value).all():
                raise DivergedError(
                    f"update {learner['num_updates']}: {name} of the {part} is not finite; try a lower "
                    "--learner.learning_rate."
                )


def _name(counters: Counters) -> str:
    """Steps are in it, since a checkpoint of the same update must not overwrite part of another's."""
    return f"update-{counters.num_updates:010d}-step-{counters.num_steps:010d}"


def _read_counters(path: Path) -> Counters:
    try:
        return Counters(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise LapaError(f"{path}: damaged ({error}); start again in another --out.") from error
