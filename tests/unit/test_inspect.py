import pytest

from lapa_ray import cli
from lapa_ray.core.artefact import Draft
from tests.support.configs import BakeConfig


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def inspect(capsys, *arguments) -> tuple[int, str, str]:
    code = cli.main(["inspect", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def frames(tmp_path):
    config = BakeConfig(out=tmp_path / "frames", flour=tmp_path)
    return Draft.begin(config, "frames").finish({"num_frames": 12345, "mean_return": 250.125, "nothing": None})


def test_a_whole_artefact_is_told_with_its_figures(frames, capsys):
    code, out, err = inspect(capsys, frames.path)
    assert (code, err) == (0, "")
    for text in (
        "frames (schema version 1)",
        "whole",
        frames.identity,
        "12,345",
        "250.1",
        "not measured",
        "MB in 2 files",
    ):
        assert text in out


def test_parents_are_told_and_when_they_are_gone(frames, tmp_path, capsys):
    config = BakeConfig(out=tmp_path / "vqvae", flour=tmp_path)
    Draft.begin(config, "vqvae", {"frames": frames}).finish({})
    assert f"frames {frames.identity})" in inspect(capsys, "--path", config.out)[1]
    frames.path.rename(tmp_path / "elsewhere")
    assert f"frames {frames.identity}, no longer there)" in inspect(capsys, config.out)[1]


def test_an_unfinished_run_is_told_to_be_one(tmp_path, capsys):
    Draft.begin(BakeConfig(out=tmp_path / "vqvae", flour=tmp_path), "vqvae")
    code, out, _ = inspect(capsys, tmp_path / "vqvae")
    assert code == 0
    assert "unfinished: continue it with --resume" in out


def test_what_is_no_artefact_is_bad_input(frames, tmp_path, capsys):
    for path, message in (
        (tmp_path / "none", "no such directory"),
        (tmp_path, "holds no artefact"),
        (frames.path / "manifest.json", "no such directory"),
    ):
        code, out, err = inspect(capsys, path)
        assert (code, out) == (2, "")
        assert message in err
        assert len(err.splitlines()) <= 2
    assert "Artefacts inside it: frames." in inspect(capsys, tmp_path)[2]


def test_a_damaged_manifest_is_bad_input(frames, capsys):
    (frames.path / "manifest.json").write_text('{"kind": "fra')
    code, _, err = inspect(capsys, frames.path)
    assert code == 2
    assert "manifest.json: damaged" in err
