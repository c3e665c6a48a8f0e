"""Artefacts: the directories that pass through the doors between stages.

A directory with a complete `manifest.json` is whole. One with `run.json` alone is a run that has not finished: it can
be resumed by the same config and parents (the same identity) and by no other. The manifest is written last, by rename.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lapa_ray.core import locks
from lapa_ray.core.config import PlainStageConfig, StageConfig, identity_of
from lapa_ray.core.errors import AlreadyWholeError, IdentityMismatchError, LapaError, NoRoomError
from lapa_ray.core.files import TEMPORARY_PREFIX, remove_leftovers, write_json
from lapa_ray.core.manifest import MANIFEST as MANIFEST
from lapa_ray.core.manifest import RUN as RUN
from lapa_ray.core.manifest import SCHEMA_VERSIONS, Parent
from lapa_ray.core.manifest import Artefact as Artefact
from lapa_ray.core.manifest import Kind as Kind
from lapa_ray.core.manifest import Manifest as Manifest
from lapa_ray.core.manifest import Run as Run
from lapa_ray.core.manifest import is_unfinished as is_unfinished
from lapa_ray.core.manifest import open_artefact as open_artefact
from lapa_ray.core.manifest import read_run as read_run
from lapa_ray.core.metric_log import check_wandb

RUN_SECONDS = ".seconds.json"
METRICS = "metrics.jsonl"
MIN_FREE_BYTES = 64 * 2**20
PACKAGES = ("lapa-ray", "ray", "torch", "gymnasium", "ale-py", "numpy", "pyarrow", "vector-quantize-pytorch")


class Draft:
    """An artefact being made: created by `begin`, made whole by `finish`."""

    def __init__(self, path: Path, run: Run, *, resumed: bool) -> None:
        self.path = path
        self.run = run
        self.resumed = resumed
        self._start = time.monotonic()
        self._seconds_before = _seconds_spent(path)

    @classmethod
    def begin(
        cls,
        config: PlainStageConfig,
        kind: Kind,
        parents: Mapping[str, Artefact] | None = None,
        files: Mapping[str, Path] | None = None,
    ) -> Draft:
        """Take possession of `config.out` for a `kind` artefact made from `parents`, and from `files` by option.

        Raises `AlreadyWholeError` if it stands there finished, `IdentityMismatchError` if what stands there is of
        another config, and `LapaError` if the directory is not free, not resumable or the disk is full, or if metrics
        are to go where they cannot.
        """
        run, held_before = _describe(config, kind, parents or {}, files or {}), locks.is_held(config.out)
        try:
            resumed = _take_possession(config, run)
        except BaseException:
            if not held_before:
                locks.release(config.out)
            raise
        return cls(config.out, run, resumed=resumed)

    @property
    def metrics_path(self) -> Path:
        """The JSONL file that the metric log appends to."""
        return self.path / METRICS

    def pause(self) -> None:
        """Note the time spent so far, so that a resumed run tells the whole of it."""
        write_json(self.path / RUN_SECONDS, {"seconds": self._seconds()})
        locks.release(self.path)

    def finish(self, figures: Mapping[str, float | int | str | None]) -> Artefact:
        """Write the manifest: from here on the artefact is whole. What killed workers left half-written goes before."""
        remove_leftovers(self.path)
        fields = self.run.model_dump(mode="json") | {"figures": _finite(figures), "seconds": round(self._seconds(), 2)}
        manifest = Manifest.model_validate(fields)
        write_json(self.path / MANIFEST, manifest.model_dump(mode="json"))
        (self.path / RUN_SECONDS).unlink(missing_ok=True)
        locks.release(self.path)
        return Artefact(self.path, manifest)

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._start


@contextmanager
def withdrawn_if_barren(path: Path) -> Iterator[None]:
    """Take back, on a `LapaError` or Ctrl-C inside the block, a run that began in it at `path` and made nothing yet.

    Bad input that shows only after `Draft.begin`, such as a GPU that Ray does not have, so writes nothing either.
    """
    folder_stood, run_stood = path.exists(), (path / RUN).exists()
    try:
        yield
    except (LapaError, KeyboardInterrupt) as error:
        to_resume = isinstance(error, NoRoomError)
        if not run_stood and not to_resume and locks.is_held(path) and _is_barren(path):
            shutil.rmtree(path)
            locks.release(path)
            if folder_stood:
                path.mkdir()
        raise


def _is_barren(path: Path) -> bool:
    """Whether a run lies at `path` that made nothing.

    No file has content but `run.json` (of runs inside it too) and what is hidden: bookkeeping, half-written files.
    """
    files = [file.relative_to(path) for file in path.rglob("*") if file.is_file() and file.stat().st_size]
    made = [file for file in files if file.name != RUN and not any(part.startswith(".") for part in file.parts)]
    return is_unfinished(path) and not made


def identity_hash(kind: str, identity_config: Mapping[str, Any], parents: Mapping[str, Artefact]) -> str:
    """Hash of what the artefact is made from; the same on every machine and in every folder."""
    what = {
        "kind": kind,
        "schema_version": SCHEMA_VERSIONS[kind],
        "config": identity_config,
        "parents": {role: parent.identity for role, parent in parents.items()},
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def check_same_parent(child: Artefact, role: str, parent: Artefact) -> None:
    """Raise `LapaError` unless `child` was made from `parent` (as `role`): mixed-up artefacts give nonsense."""
    made_from = child.manifest.parents.get(role)
    if made_from is None or made_from.identity != parent.identity:
        hint = f"it was made with {made_from.path}" if made_from else f"it names no {role}"
        raise LapaError(
            f"{child.path} ({child.manifest.kind}) was not made with the {role} in {parent.path}; {hint}.\n"
            f"Give the {role} that it was made with, or make the {child.manifest.kind} again."
        )


def _describe(config: PlainStageConfig, kind: Kind, parents: Mapping[str, Artefact], files: Mapping[str, Path]) -> Run:
    identity_config = identity_of(config) | {f"{option} (SHA-256)": _digest(path) for option, path in files.items()}
    return Run(
        kind=kind,
        schema_version=SCHEMA_VERSIONS[kind],
        identity=identity_hash(kind, identity_config, parents),
        config=config.model_dump(mode="json"),
        identity_config=identity_config,
        seed=config.seed,
        versions=package_versions(),
        parents={
            role: Parent(kind=parent.manifest.kind, path=str(parent), identity=parent.identity)
            for role, parent in parents.items()
        },
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _digest(path: Path) -> str:
    """Of a file's contents: it is the same file wherever it lies."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that decide results."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _check_directory(path: Path, run: Run, *, resume: bool) -> bool:
    """Whether the run in `path` is to be continued; raises if the directory cannot be used."""
    if path.exists() and not path.is_dir():
        raise LapaError(f"--out {path}: is a file, not a directory; choose another.")
    if (path / MANIFEST).exists():
        _check_whole(path, run)
    if (path / RUN).exists():
        _check_resumable(path, run, resume=resume)
        return True
    if path.exists() and not all(entry.name.startswith(TEMPORARY_PREFIX) for entry in path.iterdir()):
        raise LapaError(f"--out {path}: holds something else; choose a new or empty directory.")
    if resume:
        raise LapaError(f"--resume: there is no unfinished run in {path}; start one without --resume.")
    return False


def _take_possession(config: PlainStageConfig, run: Run) -> bool:
    """Hold `config.out` with `run.json` in it; whether it holds a run that is to be continued."""
    if is_unfinished(config.out):
        _hold(config.out)  # before anything else is said of it: who writes there now comes first
    resumed = _check_directory(config.out, run, resume=config.resume)
    _check_free_space(config.out)
    if isinstance(config, StageConfig):
        check_wandb(config.wandb)
    try:
        config.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LapaError(f"--out {config.out}: cannot be created ({error.strerror}); choose another.") from error
    _hold(config.out)
    if _check_directory(config.out, run, resume=config.resume) != resumed:
        raise LapaError(f"--out {config.out}: another lapa-ray was faster; look at what it made.")
    if resumed:
        remove_leftovers(config.out)
    else:
        write_json(config.out / RUN, run.model_dump(mode="json"))
    return resumed


def _hold(path: Path) -> None:
    """Take the folder, which is there, for this process. Raises `LapaError` if another process has it."""
    if not locks.hold(path):
        raise LapaError(f"--out {path}: another lapa-ray is writing there; wait for its end, or choose another.")


def _check_whole(path: Path, run: Run) -> None:
    whole = open_artefact(path)
    if whole.identity == run.identity:
        raise AlreadyWholeError(whole)
    differences = _differences(whole.manifest, run)
    raise IdentityMismatchError(
        f"--out {path}: holds a finished {whole.manifest.kind} artefact of another run ({differences}); "
        "choose another directory."
    )


def _check_resumable(path: Path, run: Run, *, resume: bool) -> None:
    before = read_run(path)
    if before.identity != run.identity:
        raise IdentityMismatchError(
            f"--out {path}: holds an unfinished {before.kind} run of another config ({_differences(before, run)}); "
            "give it the same config to resume it, or choose another directory."
        )
    if not resume:
        raise LapaError(
            f"--out {path}: holds an unfinished {before.kind} run of this config; "
            "add --resume to continue it, or choose another directory."
        )


def _differences(before: Run, now: Run) -> str:
    if before.kind != now.kind:
        return f"kind {before.kind}, not {now.kind}"
    old, new = _flatten(before.identity_config), _flatten(now.identity_config)
    changed = [f"{k}: {old.get(k)} there, {new.get(k)} here" for k in old | new if old.get(k) != new.get(k)]
    old_parents = {role: parent.identity for role, parent in before.parents.items()}
    new_parents = {role: parent.identity for role, parent in now.parents.items()}
    changed += [f"another {r}" for r in old_parents | new_parents if old_parents.get(r) != new_parents.get(r)]
    return "; ".join(changed[:3]) + (f"; {len(changed) - 3} more" if len(changed) > 3 else "") or "another schema"


def _flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flatten(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
    return flat


def _check_free_space(path: Path) -> None:
    nearest = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    free = shutil.disk_usage(nearest).free
    if free < MIN_FREE_BYTES:
        raise LapaError(
            f"--out {path}: no disk space ({free / 2**20:.0f} MB free, at least {MIN_FREE_BYTES / 2**20:.0f} MB "
            "needed to start); free some, or choose another directory."
        )


def _seconds_spent(path: Path) -> float:
    try:
        return float(json.loads((path / RUN_SECONDS).read_text())["seconds"])
    except (OSError, ValueError, KeyError):
        return 0.0


def _finite(figures: Mapping[str, float | int | str | None]) -> dict[str, float | int | str | None]:
    """Figures with JSON's missing value for what could not be measured (not a number, or infinite)."""
    return {k: v if v is None or isinstance(v, str) or math.isfinite(v) else None for k, v in figures.items()}
