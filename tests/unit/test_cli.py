import subprocess
import sys

import pytest

from lapa_ray import __version__, cli
from lapa_ray.core.errors import StoppedError
from lapa_ray.stages import inspect


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_the_overview_names_every_command(arguments, capsys):
    assert cli.main(arguments) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in cli.STAGES)


def test_the_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"lapa-ray {__version__}\n"


def test_a_misspelt_command_is_told_what_was_meant(capsys):
    assert cli.main(["train_vqvea"]) == cli.EXIT_BAD_INPUT
    captured = capsys.readouterr()
    assert "did you mean train-vqvae?" in captured.err
    assert len(captured.err.splitlines()) == 2
    assert captured.out == ""


def outcome(monkeypatch, error: BaseException) -> int:
    def run(_config):
        raise error

    monkeypatch.setattr(inspect, "run", run)
    return cli.main(["inspect", "somewhere"])


def test_a_stopped_stage_exits_with_130(monkeypatch, capsys):
    assert outcome(monkeypatch, StoppedError("stopped at update 3 of 9; continue with --resume")) == 130
    assert capsys.readouterr().err == "lapa-ray inspect: stopped at update 3 of 9; continue with --resume\n"
    assert outcome(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "lapa-ray inspect: stopped.\n"


def test_a_full_disk_is_bad_input(monkeypatch, capsys):
    assert outcome(monkeypatch, OSError(28, "No space left on device", "out/x")) == 2
    message = capsys.readouterr().err
    assert message.startswith("lapa-ray inspect: No space left on device: out/x; nothing finished was harmed.")
    assert "--resume" in message


def test_a_fault_of_ours_is_not_hidden(monkeypatch):
    with pytest.raises(ZeroDivisionError):
        outcome(monkeypatch, ZeroDivisionError())
    with pytest.raises(OSError, match="Broken"):
        outcome(monkeypatch, OSError(32, "Broken pipe"))


def test_the_overview_needs_neither_torch_nor_ray():
    code = "import sys, lapa_ray.cli as c; c.main([]); print(sorted({'torch', 'ray', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
