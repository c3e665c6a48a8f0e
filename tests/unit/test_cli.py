import subprocess
import sys
from pathlib import Path

import pytest

from lapa_ray import __version__, cli
from lapa_ray.core.artefact import Draft
from lapa_ray.core.errors import StoppedError
from lapa_ray.stages import demo, inspect, record


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


def interrupted(monkeypatch, out: Path, *arguments: str, makes: str | None = None) -> int:
    """A stage that begins its artefact, may make something, and then gets a Ctrl-C where no handler is."""

    def run(config):
        draft = Draft.begin(config, "frames")
        if makes:
            (draft.path / makes).write_text("x")
        raise KeyboardInterrupt

    monkeypatch.setattr(record, "run", run)
    return cli.main(["record", "--agent=random", f"--out={out}", *arguments])


def test_a_ctrl_c_tells_how_to_go_on_where_there_is_something_to_go_on_with(monkeypatch, capsys, tmp_path):
    assert interrupted(monkeypatch, tmp_path / "out", makes="a.parquet") == 130
    said = "lapa-ray record: stopped; give the same command with --resume to continue.\n"
    assert capsys.readouterr().err == said
    assert interrupted(monkeypatch, tmp_path / "out", "--resume") == 130
    assert capsys.readouterr().err == said


def test_a_ctrl_c_before_anything_was_made_leaves_nothing(monkeypatch, capsys, tmp_path):
    assert interrupted(monkeypatch, tmp_path / "out") == 130
    assert capsys.readouterr().err == "lapa-ray record: stopped; nothing was made yet, so nothing is left of it.\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("files", "told"),
    [(["a.parquet"], ""), (["a.parquet", "page.html"], " (look at page.html)"), (["a.mp4", "b.mp4"], "")],
)
def test_the_end_tells_where_to_look(monkeypatch, capsys, tmp_path, files, told):
    def run(config):
        draft = Draft.begin(config, "frames")
        for name in files:
            (draft.path / name).write_text("x")
        return draft.finish({})

    monkeypatch.setattr(record, "run", run)
    assert cli.main(["record", "--agent=random", f"--out={tmp_path / 'out'}"]) == 0
    assert capsys.readouterr() == (f"done: {tmp_path / 'out'}{told}\n", "")


def test_a_demo_that_is_interrupted_says_that_the_same_command_goes_on(monkeypatch, capsys, tmp_path):
    def run(config):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", run)
    assert cli.main(["demo", f"--out={tmp_path}"]) == 130
    assert capsys.readouterr().err == "lapa-ray demo: stopped; the same command goes on where it was.\n"


def test_a_ctrl_c_while_libraries_load_ends_with_a_line():
    """Where a library would take it for a missing module, and go on without it."""
    code = """if True:
        import os, signal, sys
        from lapa_ray import cli
        def load(name):
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except BaseException:
                print("swallowed")
        cli.import_module = load
        sys.exit(cli.main(["inspect", "x"]))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "lapa-ray inspect: stopped.\n")


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
