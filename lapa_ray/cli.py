"""The command line: one subcommand a stage, nothing else. Only the stage that is asked for is imported."""

from __future__ import annotations

import difflib
import errno
import itertools
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from lapa_ray import __version__
from lapa_ray.core.errors import AlreadyWholeError, LapaError, StoppedError

if TYPE_CHECKING:
    from lapa_ray.core.config import Config

STAGES: dict[str, tuple[str, str]] = {
    "train-dqn": ("train_dqn", "Play with Ray actors and train a DQN agent from one shared replay buffer"),
    "record": ("record", "Play episodes with an agent and record every emulator frame"),
    "record-video": ("record_video", "Film episodes of an agent, with its actions and their values beside the picture"),
    "visualize-latents": (
        "visualize_latents",
        "Show what a network makes of recorded states, by PCA and t-SNE",
    ),
    "import-frames": ("import_frames", "Turn PNG folders, videos or NumPy files into a frame dataset"),
    "export-frames": ("export_frames", "Turn a frame dataset into PNG folders, videos or NumPy files"),
    "train-vqvae": ("train_vqvae", "Learn discrete codes of what changes between two frames"),
    "extract": ("extract", "Turn a frame dataset into codes"),
    "sweep": ("sweep", "Train the VQ-VAE by every setting of a space, over seeds, and compare them"),
    "train-world-model": ("train_world_model", "Learn the dynamics of the game on codes"),
    "evaluate": ("evaluate", "Measure every model beside its trivial baselines, on held-out episodes"),
    "compare-replay": ("compare_replay", "Train with uniform and prioritised replay, over seeds, and compare them"),
    "measure-data": ("measure_data", "Tell how varied the play in frame datasets is, side by side"),
    "report": ("report", "Write one self-contained HTML report"),
    "demo": ("demo", "Run the chain, small, from train-dqn to report"),
    "inspect": ("inspect", "Tell what an artefact directory holds and whether it is whole"),
}

USAGE = {
    "inspect": "give the directory: lapa-ray inspect DIR",
    "measure-data": "give one dataset at least, and a place: lapa-ray measure-data DIR [DIR ...] --out DIR",
}
"""What to type, for the commands that take directories without an option's name."""

TELLS_ITSELF = {"sweep", "compare-replay", "measure-data"}
"""Commands that end with a table, and where to read more."""
TO_LOOK_AT = {".html", ".png", ".mp4"}

EXIT_BAD_INPUT = 2
EXIT_STOPPED = 130

_MAKE_ROOM = "Make room, then add --resume"
_CHOOSE = "Choose a directory that you may write to"
WAYS_OUT = {errno.ENOSPC: _MAKE_ROOM, errno.EDQUOT: _MAKE_ROOM, errno.EROFS: _CHOOSE, errno.EACCES: _CHOOSE}
"""What to do about the errors of the file system that are the user's to mend."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0 done, 2 bad input, 130 stopped by the user)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(_overview())
        return 0
    if arguments[0] in {"-V", "--version"}:
        print(f"lapa-ray {__version__}")
        return 0
    if arguments[0] not in STAGES:
        return _fail(_no_such_command(arguments[0]))
    prepare_libraries()
    return _run_stage(arguments[0], arguments[1:])


def _run_stage(name: str, arguments: list[str]) -> int:
    with _ended_by_ctrl_c(name):
        from lapa_ray.core.artefact import Artefact, withdrawn_if_barren
        from lapa_ray.core.command_line import parse_config
        from lapa_ray.core.config import PlainStageConfig

        stage = import_module(f"lapa_ray.stages.{STAGES[name][0]}")
    config = None
    try:
        arguments = _positional(name, arguments)
        config = parse_config(stage.CONFIG, arguments, prog=f"lapa-ray {name}", summary=f"{STAGES[name][1]}.")
        with withdrawn_if_barren(config.out) if isinstance(config, PlainStageConfig) else nullcontext():
            made = stage.run(config)
        if isinstance(made, Artefact) and name not in TELLS_ITSELF:
            print(_made(made.path))
    except AlreadyWholeError as whole:
        print(whole)
    except LapaError as error:
        return _fail(f"lapa-ray {name}: {error}")
    except StoppedError as stopped:
        return _stopped(name, str(stopped))
    except KeyboardInterrupt:
        return _stopped(name, f"stopped{_how_to_go_on(name, config)}.")
    except OSError as error:
        if error.errno not in WAYS_OUT:
            raise
        what = f"{error.strerror}: {error.filename or 'the output directory'}"
        return _fail(f"lapa-ray {name}: {what}; nothing finished was harmed. {WAYS_OUT[error.errno]}.")
    return 0


def _made(folder: Path) -> str:
    """Where the finished artefact is, and the one file in it that a person would open, if there is one."""
    shown = [path.name for path in folder.iterdir() if path.suffix in TO_LOOK_AT]
    return f"done: {folder.resolve()}" + (f" (look at {shown[0]})" if len(shown) == 1 else "")


@contextmanager
def _ended_by_ctrl_c(name: str) -> Iterator[None]:
    """End the process at a Ctrl-C inside the block, where nothing has begun and libraries load.

    As an exception some of them would take it for a missing module, and go on without it.
    """

    def end(_signal: int, _frame: object) -> None:
        sys.stdout.flush()
        os._exit(_stopped(name, "stopped."))

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _how_to_go_on(name: str, config: Config | None) -> str:
    """What a Ctrl-C that no stage took for a request leaves, and what to do with it."""
    from lapa_ray.core.artefact import is_unfinished
    from lapa_ray.core.config import PlainStageConfig

    if name == "demo":
        return "; the same command goes on where it was"
    if not isinstance(config, PlainStageConfig):
        return ""
    if is_unfinished(config.out):
        return "; give the same command with --resume to continue"
    return (
        "" if config.out.exists() and any(config.out.iterdir()) else "; nothing was made yet, so nothing is left of it"
    )


def _stopped(name: str, message: str) -> int:
    print(f"lapa-ray {name}: {message}", file=sys.stderr, flush=True)
    return EXIT_STOPPED


def _no_such_command(name: str) -> str:
    close = difflib.get_close_matches(name.replace("_", "-"), STAGES, n=1)
    hint = f"; did you mean {close[0]}?" if close else "."
    return f"lapa-ray: there is no command '{name}'{hint}\nThe commands are {', '.join(STAGES)}."


def _positional(name: str, arguments: list[str]) -> list[str]:
    """`lapa-ray inspect DIR` as `--path DIR` and `lapa-ray measure-data A B` as `--frames '["A", "B"]'`."""
    if name in USAGE and not arguments:
        raise LapaError(f"{USAGE[name]}; --help lists its options.")
    if name == "inspect" and not arguments[0].startswith("-"):
        return ["--path", *arguments]
    given = list(itertools.takewhile(lambda argument: not argument.startswith("-"), arguments))
    if name == "measure-data" and given:
        return ["--frames", json.dumps(given), *arguments[len(given) :]]
    return arguments


def prepare_libraries() -> None:
    """Silence banners at their source and let threads wait asleep, here and in every process that this one starts."""
    # A thread that spins while it waits keeps a core from whoever has work; one that sleeps at once is slow to wake
    # where cores are idle. So it spins briefly, then sleeps (docs/decisions.md). Read once, when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    # How often Ray Train asks its workers takes from their cores; a training's end is seen so much later at most.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "1")
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # a process more, and nobody asks what it saw
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")
    os.environ.setdefault("WANDB_SILENT", "true")
    for category in (FutureWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", category=category, module=r"(?!lapa_ray\b)")


def _overview() -> str:
    lines = "\n".join(f"  {name:<18} {summary}" for name, (_, summary) in STAGES.items())
    return (
        "usage: lapa-ray COMMAND [--config FILE] [--OPTION VALUE ...]\n\n"
        "From Atari pixels to a playable world model, on Ray. The commands, in the order of the chain:\n\n"
        f"{lines}\n\n"
        "lapa-ray COMMAND --help lists its options with units and defaults; lapa-ray demo runs the chain, small.\n"
        "With RAY_ADDRESS set a command runs on that cluster, otherwise on this machine."
    )


def _fail(message: str) -> int:
    print(message, file=sys.stderr)
    return EXIT_BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
