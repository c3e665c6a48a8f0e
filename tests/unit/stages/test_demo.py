"""The demo's rule: keep what is whole, make again what changed and what came of it, never throw away another's."""

import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from lapa_ray import cli
from lapa_ray.core.artefact import Draft, open_artefact
from lapa_ray.core.config import PlainStageConfig, StageConfig
from lapa_ray.core.files import TEMPORARY_PREFIX
from lapa_ray.stages import demo


class SowConfig(StageConfig):
    """A toy stage that reads nothing."""

    grains: int = 1
    """Grains sown."""


class ReapConfig(PlainStageConfig):
    """A toy stage that reads the first one's artefact."""

    agent: Path
    """What was sown."""
    sickles: int = 1
    """Sickles."""


def sow(config: SowConfig) -> None:
    Draft.begin(config, "agent").finish({"grains": config.grains})


def reap(config: ReapConfig) -> None:
    draft = Draft.begin(config, "frames", {"agent": open_artefact(config.agent, "agent")})
    draft.finish({"sickles": config.sickles})


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Where a demo of two toy stages lies; its configs are in `configs` beside it."""
    for name, config, run in (("sow", SowConfig, sow), ("reap", ReapConfig, reap)):
        monkeypatch.setitem(sys.modules, f"lapa_ray.stages.{name}", SimpleNamespace(CONFIG=config, run=run))
    monkeypatch.setattr(demo, "CHAIN", (("sow", "agent", ()), ("reap", "frames", ("agent",))))
    monkeypatch.setattr(demo, "ray_session", lambda _config: nullcontext())
    (tmp_path / "configs").mkdir()
    settle(tmp_path / "demo")
    return tmp_path / "demo"


def settle(folder: Path, grains: int = 1, sickles: int = 1) -> None:
    configs = folder.parent / "configs"
    (configs / "sow.yaml").write_text(f"grains: {grains}\n")
    (configs / "reap.yaml").write_text(f"sickles: {sickles}\n")


def run_demo(folder: Path) -> int:
    return cli.main(["demo", f"--out={folder}", f"--configs={folder.parent / 'configs'}"])


def made_at(folder: Path) -> list[int]:
    return [(folder / name / "manifest.json").stat().st_mtime_ns for name in ("agent", "frames")]


def test_a_second_demo_keeps_everything(folder):
    assert run_demo(folder) == 0
    before = made_at(folder)
    assert run_demo(folder) == 0
    assert made_at(folder) == before


def test_a_changed_stage_is_made_again_and_the_one_before_is_kept(folder):
    run_demo(folder)
    before = made_at(folder)
    settle(folder, sickles=2)
    assert run_demo(folder) == 0
    assert made_at(folder)[0] == before[0]
    assert open_artefact(folder / "frames").manifest.figures["sickles"] == 2


def test_what_came_of_a_changed_stage_is_made_again_too(folder):
    run_demo(folder)
    before = open_artefact(folder / "frames").identity
    settle(folder, grains=2)
    assert run_demo(folder) == 0
    assert open_artefact(folder / "agent").manifest.figures["grains"] == 2
    assert open_artefact(folder / "frames").identity != before


def test_a_stage_that_a_kill_cut_short_is_the_demos_own(folder, monkeypatch):
    def die(config):
        Draft.begin(config, "agent").pause()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "lapa_ray.stages.sow", SimpleNamespace(CONFIG=SowConfig, run=die))
        assert run_demo(folder) == 130
    settle(folder, grains=2)
    assert run_demo(folder) == 0
    assert open_artefact(folder / "agent").manifest.figures["grains"] == 2


def test_what_the_demo_did_not_make_is_kept(folder, capsys):
    sow(SowConfig(out=folder / "agent", grains=7))
    assert run_demo(folder) == 2
    assert "The demo did not make it and so keeps it" in capsys.readouterr().err
    assert open_artefact(folder / "agent").manifest.figures["grains"] == 7


def test_what_a_killed_demo_left_half_written_is_no_hindrance(folder):
    folder.mkdir()
    (folder / f"{TEMPORARY_PREFIX}1-{demo.MADE_HERE}").touch()
    assert run_demo(folder) == 0


def test_a_refused_stage_leaves_no_trace(folder, capsys):
    (folder.parent / "configs" / "sow.yaml").write_text("grians: 1\n")
    assert run_demo(folder) == 2
    assert "did you mean grains?" in capsys.readouterr().err
    assert not folder.exists()


def fill(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.txt").write_text("precious")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (fill, "holds something else"),
        (lambda folder: folder.write_text("a file"), "is a file, not a directory"),
        (lambda folder: (folder.parent / "configs" / "reap.yaml").unlink(), "reap.yaml missing"),
    ],
)
def test_folders_that_will_not_do_are_refused(folder, capsys, prepare, message):
    prepare(folder)
    assert run_demo(folder) == 2
    assert message in capsys.readouterr().err
