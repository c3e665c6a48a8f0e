"""`demo`: the whole chain, small, in one command. A plain list of stages; each reads what the ones before it wrote.

A second run keeps what is whole, resumes what is unfinished and makes again what changed, with all that came of it;
artefacts that it did not make itself it may use, but never throws away.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from lapa_ray.actors.cluster import ray_session
from lapa_ray.core.artefact import RUN
from lapa_ray.core.command_line import parse_config
from lapa_ray.core.config import Config, RayConfig
from lapa_ray.core.errors import AlreadyWholeError, IdentityMismatchError, LapaError, StoppedError
from lapa_ray.core.files import TEMPORARY_PREFIX, write_text

MADE_HERE = ".made_by_demo"
QUICK_CONFIGS = Path(__file__).parents[2] / "tune_configs" / "quick"

EVERYTHING = ("agent", "frames", "vqvae", "codes", "world_model")
CHAIN: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("train_dqn", "agent", ()),
    ("record", "frames", ("agent",)),
    ("train_vqvae", "vqvae", ("frames",)),
    ("extract", "codes", ("frames", "vqvae")),
    ("train_world_model", "world_model", ("codes",)),
    ("evaluate", "evaluation", EVERYTHING),
    ("measure_data", "data_quality", ("frames",)),
    ("report", "report", (*EVERYTHING, "evaluation", "data_quality")),
)
"""Stage, the artefact that it writes, the artefacts that it reads."""


class DemoConfig(Config):
    """Where the demo lies and what it runs with."""

    out: Path
    """Directory that gets one folder an artefact; the same one again continues where it was left."""
    configs: Path | None = None
    """Folder with one YAML file a stage; tune_configs/quick of this repository if not given."""
    ray: RayConfig = RayConfig()
    """A local Ray; unused when RAY_ADDRESS names a cluster."""


CONFIG = DemoConfig


def run(config: DemoConfig) -> Path:
    """Run the chain and return the path of the HTML report."""
    _check_directories(config)
    start = time.monotonic()
    with ray_session(config.ray):
        for number, (stage, artefact, reads) in enumerate(CHAIN, start=1):
            _say(f"\n[{number}/{len(CHAIN)}] {_command(stage)}")
            _run_stage(config, stage, artefact, reads)
    report = config.out / "report" / "report.html"
    _say(f"\nDone in {time.monotonic() - start:.0f} s. The report:\n{report.resolve()}")
    return report


def _run_stage(config: DemoConfig, stage: str, artefact: str, reads: tuple[str, ...]) -> None:
    out = config.out / artefact
    arguments = ["--config", str(_configs(config) / f"{stage}.yaml"), "--out", str(out)]
    for name in reads:
        arguments += [f"--{name}", str(config.out / name)]
    start = time.monotonic()
    try:
        with _noted_as_made(out):
            _make(stage, arguments, out)
        _say(f"wrote {out} in {time.monotonic() - start:.0f} s")
    except AlreadyWholeError:
        _say(f"kept {out}: whole, and of this config")
    except StoppedError as stopped:
        raise StoppedError(f"stopped in {_command(stage)}; the same command continues there.") from stopped


@contextmanager
def _noted_as_made(out: Path) -> Iterator[None]:
    """Note that a demo makes what will lie in `out`, if nothing does: before it is begun, since a kill may follow."""
    if _holds_something(out):
        yield
        return
    folder, before = out.parent, _made_here(out.parent)
    stood = folder.exists()
    _note(folder, [*before, out.name])
    try:
        yield
    finally:
        if not _holds_something(out):
            _note(folder, before)
            if not stood and not _holds_something(folder):
                folder.rmdir()


def _note(folder: Path, names: list[str]) -> None:
    if names:
        write_text(folder / MADE_HERE, "\n".join(dict.fromkeys(names)) + "\n")
    else:
        (folder / MADE_HERE).unlink(missing_ok=True)


def _make(stage: str, arguments: list[str], out: Path) -> None:
    """Run the stage: resumed where it is unfinished, from nothing where what stands there is of another config."""
    module = import_module(f"lapa_ray.stages.{stage}")
    resume = ["--resume"] if (out / RUN).exists() else []
    try:
        module.run(parse_config(module.CONFIG, [*arguments, *resume], f"lapa-ray {_command(stage)}"))
    except IdentityMismatchError as mismatch:
        if out.name not in _made_here(out.parent):
            raise LapaError(
                f"{mismatch}\nThe demo did not make it and so keeps it; give --out another directory."
            ) from mismatch
        _say(f"making {out} again: its config, or what it is made from, changed")
        shutil.rmtree(out)
        module.run(parse_config(module.CONFIG, arguments, f"lapa-ray {_command(stage)}"))


def _made_here(folder: Path) -> list[str]:
    """Names of the artefacts in `folder` that a demo began: those alone may it throw away."""
    made = folder / MADE_HERE
    return made.read_text(encoding="utf-8").split() if made.exists() else []


def _holds_something(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _command(stage: str) -> str:
    return stage.replace("_", "-")


def _configs(config: DemoConfig) -> Path:
    return config.configs or QUICK_CONFIGS


def _check_directories(config: DemoConfig) -> None:
    folder = _configs(config)
    missing = [f"{stage}.yaml" for stage, _, _ in CHAIN if not (folder / f"{stage}.yaml").is_file()]
    if missing:
        raise LapaError(f"--configs {folder}: {', '.join(missing)} missing; give a folder like tune_configs/quick.")
    if config.out.exists() and not config.out.is_dir():
        raise LapaError(f"--out {config.out}: is a file, not a directory; choose another.")
    if config.out.is_dir() and any(_is_foreign(entry.name) for entry in config.out.iterdir()):
        raise LapaError(f"--out {config.out}: holds something else; choose a new or empty directory.")


def _is_foreign(name: str) -> bool:
    """Whether an entry of `--out` is none that a demo makes, or a killed one leaves."""
    return name not in {MADE_HERE, *(artefact for _, artefact, _ in CHAIN)} and not name.startswith(TEMPORARY_PREFIX)


def _say(text: str) -> None:
    print(text, flush=True)
