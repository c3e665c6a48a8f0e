"""Metrics: one JSON object a line in the artefact, and the same to Weights & Biases when that is on."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.config import WandbConfig
from lapa_ray.core.errors import LapaError
from lapa_ray.core.files import write_text

WANDB_SERVERS = frozenset({"api.forge.coreweave.com", "api.wandb.ai"})
"""Names under which `wandb login` of this and of earlier versions notes the key of the public server in ~/.netrc."""


class MetricLog:
    """Appends rows `{"stage": …, "step": …, name: number, …}`; a context manager that closes both sinks."""

    def __init__(
        self, path: Path, stage: str, wandb: WandbConfig | None = None, config: Mapping[str, Any] | None = None
    ) -> None:
        """Open `path` for appending.

        `wandb` None writes the file alone; `config` is what W&B shows as the run's config. Raises `LapaError` if W&B
        does not take the run.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._run = _start_wandb(wandb, stage, path, config or {}) if wandb else None
        cut_short = _is_cut_short(path)
        self._file = path.open("a", encoding="utf-8")
        if cut_short:
            self._file.write("\n")  # else the next row would be lost with the one that a kill cut
        self._stage = stage

    def write(self, step: int, values: Mapping[str, float | int | None]) -> None:
        """Log `values` at `step` (the stage's own count: updates, steps or epochs); not-a-number becomes null."""
        row = {name: _json_number(value) for name, value in values.items()}
        self._file.write(json.dumps({"stage": self._stage, "step": step, **row}, allow_nan=False) + "\n")
        self._file.flush()
        if self._run is not None:
            self._run.log({name: value for name, value in row.items() if value is not None}, step=step)

    def show(
        self,
        step: int,
        pictures: Mapping[str, NDArray[np.uint8]] | None = None,
        counts: Mapping[str, NDArray[np.integer]] | None = None,
    ) -> None:
        """Show pictures uint8 [H, W, 3] and histograms of `counts` [bins] at `step` in W&B, where that is on.

        The log's file holds numbers alone: who makes pictures keeps them as files of its own.
        """
        if self._run is None:
            return
        import wandb

        shown: dict[str, Any] = {name: wandb.Image(picture) for name, picture in (pictures or {}).items()}
        shown |= {name: wandb_histogram(bins) for name, bins in (counts or {}).items()}
        self._run.log(shown, step=step)

    def close(self) -> None:
        """Close the file and finish the W&B run."""
        self._file.close()
        if self._run is not None:
            self._run.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All rows of a metric log; a last line that a kill cut short is left out. Empty if there is no file."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def forget_rows_after(path: Path, step: int, **counts: int) -> None:
    """Drop the rows that a killed run logged after its last checkpoint, at `step`: the resumed one logs them again.

    `counts`: others that grow from row to row, perhaps at the same step, as they were then.
    """
    rows = read_metrics(path)
    last = {"step": step, **counts}
    kept = [row for row in rows if all(row.get(name, 0) <= count for name, count in last.items())]
    if len(kept) < len(rows):
        write_text(path, "".join(json.dumps(row) + "\n" for row in kept))


def _is_cut_short(path: Path) -> bool:
    return path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0


def _json_number(value: float | int | None) -> float | int | None:
    if value is None or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(value)


def wandb_histogram(counts: NDArray[np.integer]) -> Any:
    """W&B's of `counts` [bins], from 0 on; it takes 512 bins at most, beyond which neighbours are added up."""
    import wandb

    starts = np.linspace(0, len(counts), min(len(counts), wandb.Histogram.MAX_LENGTH), endpoint=False).astype(np.int64)
    return wandb.Histogram(np_histogram=(np.add.reduceat(counts, starts), np.append(starts, len(counts))))


def _start_wandb(config: WandbConfig, stage: str, path: Path, run_config: Mapping[str, Any]) -> Any:
    mode = resolve_wandb_mode(config)
    if mode == "disabled":
        return None
    import wandb

    folder, settings = path.parent.resolve(), wandb.Settings(silent=True, console="off")
    stood = (folder / "wandb").exists()
    try:
        return wandb.init(
            project=config.project,
            name=config.name or folder.name,
            job_type=stage,
            mode=mode,
            dir=str(folder),
            config=dict(run_config),
            settings=settings,
        )
    except wandb.errors.Error as error:
        if not stood:
            shutil.rmtree(folder / "wandb", ignore_errors=True)
        raise LapaError(
            f"--wandb.mode {mode}: Weights & Biases refuses the run ({str(error).splitlines()[0]}); "
            "give offline or disabled, or add --resume once it answers."
        ) from error


def check_wandb(config: WandbConfig) -> None:
    """Raise `LapaError` where online is asked for and there is no key, for which W&B would ask at a terminal."""
    if config.mode == "online" and not _has_key():
        raise LapaError(
            "--wandb.mode online: no API key found; log in (wandb login), set WANDB_API_KEY, or give offline."
        )


_SAID = False


def resolve_wandb_mode(config: WandbConfig) -> Literal["online", "offline", "disabled"]:
    """online, offline or disabled; what auto comes to is said once a process."""
    if config.mode != "auto":
        return config.mode
    global _SAID
    has_key = _has_key()
    if not has_key and not _SAID:
        print("Weights & Biases is off (no API key found); metrics go to metrics.jsonl.", file=sys.stderr)
        _SAID = True
    return "online" if has_key else "disabled"


def _has_key() -> bool:
    """Whether W&B finds a key without asking, at the places where it looks itself."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    server = urlsplit(os.environ.get("WANDB_BASE_URL", "")).netloc
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        words = path.read_text(encoding="utf-8", errors="ignore").split()
    except OSError:
        return False
    return not ({server} if server else WANDB_SERVERS).isdisjoint(words)
