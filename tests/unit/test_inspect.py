import re
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from lapa_ray import cli
from lapa_ray.core.artefact import Draft
from lapa_ray.dataset.shards import shard_paths
from lapa_ray.evaluation.frame_overview import episode_sheet, histogram
from tests.support.configs import BakeConfig
from tests.support.recordings import frames_artefact, record_counter


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def inspect(capsys, *arguments) -> tuple[int, str, str]:
    code = cli.main(["inspect", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def report(tmp_path):
    config = BakeConfig(out=tmp_path / "report", flour=tmp_path)
    return Draft.begin(config, "report").finish({"num_charts": 12345, "mean_return": 250.125, "nothing": None})


def test_a_whole_artefact_is_told_with_its_figures(report, capsys):
    code, out, err = inspect(capsys, report.path)
    assert (code, err) == (0, "")
    for text in (
        "report (schema version 1)",
        "whole",
        report.identity,
        "12,345",
        "250.1",
        "not measured",
        "MB in 2 files",
    ):
        assert text in out


def test_parents_are_told_and_when_they_are_gone(report, tmp_path, capsys):
    config = BakeConfig(out=tmp_path / "vqvae", flour=tmp_path)
    Draft.begin(config, "vqvae", {"frames": report}).finish({})
    assert f"report {report.identity})" in inspect(capsys, "--path", config.out)[1]
    report.path.rename(tmp_path / "elsewhere")
    assert f"report {report.identity}, not found)" in inspect(capsys, config.out)[1]


def test_parents_that_moved_with_their_child_are_found_beside_it(report, tmp_path, capsys):
    child = Draft.begin(BakeConfig(out=tmp_path / "vqvae", flour=tmp_path), "vqvae", {"flour": report}).finish({})
    moved = tmp_path / "moved"
    moved.mkdir()
    for artefact in (report, child):
        artefact.path.rename(moved / artefact.path.name)
    assert f"{moved / 'report'} (report {report.identity})" in inspect(capsys, moved / "vqvae")[1]


def test_names_and_figures_are_whole_on_a_narrow_terminal(report, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    out = inspect(capsys, report.path)[1]
    assert "…" not in out
    assert report.identity in re.sub(r"[│\s]", "", out)


def test_an_unfinished_run_is_told_to_be_one(tmp_path, capsys):
    Draft.begin(BakeConfig(out=tmp_path / "vqvae", flour=tmp_path), "vqvae")
    code, out, _ = inspect(capsys, tmp_path / "vqvae")
    assert code == 0
    assert "unfinished: continue it with --resume" in out


def test_what_is_no_artefact_is_bad_input(report, tmp_path, capsys):
    for path, message in (
        (tmp_path / "none", "no such directory"),
        (tmp_path, "holds no artefact"),
        (report.path / "manifest.json", "no such directory"),
    ):
        code, out, err = inspect(capsys, path)
        assert (code, out) == (2, "")
        assert message in err
        assert len(err.splitlines()) <= 2
    assert "Artefacts inside it: report." in inspect(capsys, tmp_path)[2]


def test_a_damaged_manifest_is_bad_input(report, capsys):
    (report.path / "manifest.json").write_text('{"kind": "fra')
    code, _, err = inspect(capsys, report.path)
    assert code == 2
    assert "manifest.json: damaged" in err


@pytest.fixture
def frames(tmp_path):
    """Episodes of 1 to 12 steps; their returns are 1, 3, 6, …, 78."""
    return frames_artefact(tmp_path / "frames", list(range(1, 13)), height=40)


def test_unfinished_frames_are_counted_so_far(tmp_path, capsys):
    out = tmp_path / "frames"
    Draft.begin(BakeConfig(out=out, flour=tmp_path), "frames")
    assert "so far" not in inspect(capsys, out)[1]
    record_counter(out, [3, 5])
    code, told, _ = inspect(capsys, out)
    assert code == 0
    assert re.search(r"num_episodes so far +│ 2 ", told)
    assert re.search(r"num_steps so far +│ 8 ", told)


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_frames_are_told_in_detail(frames, capsys):
    code, out, err = inspect(capsys, frames.artefact.path)
    assert (code, err) == (0, "")
    for text in ("num_episodes", "num_steps", "bytes_per_frame", "screens: 40×160 palette indices, 4 a step"):
        assert text in out
    assert "played by: counter" in out
    assert "steps an episode: 1 to 12, median 6" in out
    bars = out.partition("returns:\n")[2].splitlines()
    assert [int(line.split()[-1]) for line in bars] == np.histogram([n * (n + 1) / 2 for n in range(1, 13)])[0].tolist()


def test_histograms():
    assert [line.split() for line in histogram([5.0, 5.0])] == [["4", "–", "6", "█" * 40, "2"]]
    lines = [line.split() for line in histogram([0, 0, 0, 0, 1, 3])]
    assert lines == [["0", "–", "1", "█" * 40, "4"], ["1", "–", "2", "█" * 10, "1"], ["2", "–", "3", "█" * 10, "1"]]
    lines = [line.split() for line in histogram([0, 1000])]
    assert len(lines) == 10
    assert lines[4] == ["400", "–", "500", "0"]


def test_a_contact_sheet_is_written_beside_the_artefact(frames, tmp_path, capsys):
    before = contents(frames.artefact.path)
    code, out, _ = inspect(capsys, frames.artefact.path, f"--contact_sheet={tmp_path / 'new' / 'sheet.png'}")
    assert code == 0
    assert f"contact sheet: {tmp_path / 'new' / 'sheet.png'}" in out
    assert contents(frames.artefact.path) == before
    sheet = cv2.imread(str(tmp_path / "new" / "sheet.png"))[..., ::-1]
    np.testing.assert_array_equal(sheet, episode_sheet(frames))
    assert sheet.shape == (6 * 44 - 4, 8 * 164 - 4, 3)
    first, last = frames.composites(0), frames.composites(11)
    np.testing.assert_array_equal(sheet[:40, :160], frames.info.palette[first[0]])
    np.testing.assert_array_equal(sheet[:40, 164:324], frames.info.palette[first[1]])
    np.testing.assert_array_equal(sheet[-40:, -160:], frames.info.palette[last[-1]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--contact_sheet={frames}/sheet.png"], "lies in the artefact"),
        (["--contact_sheet={frames}/../sheet.jpg"], "is to be a PNG file"),
        (["--path={report}", "--verify"], "--verify: is for whole frames; {report} holds report."),
        (["--path={report}", "--contact_sheet=x.png"], "--contact_sheet: is for whole frames"),
        (["--path={begun}", "--verify"], "{begun} holds unfinished frames"),
    ],
)
def test_what_cannot_be_asked(frames, report, tmp_path, capsys, options, message):
    begun = tmp_path / "begun"
    Draft.begin(BakeConfig(out=begun, flour=tmp_path), "frames")
    names = {"frames": frames.artefact.path, "report": report.path, "begun": begun}
    before = contents(tmp_path)
    code, out, err = inspect(capsys, "--path", frames.artefact.path, *(option.format(**names) for option in options))
    assert (code, out) == (2, "")
    assert message.format(**names) in err
    assert contents(tmp_path) == before


def test_sound_frames_are_verified(frames, capsys):
    code, out, _ = inspect(capsys, frames.artefact.path, "--verify")
    assert code == 0
    assert "verified: every row of 1 shards (324), with all checksums; no fault" in out


def test_one_damaged_page_is_found_by_verify_alone(frames, capsys):
    shard = shard_paths(frames.artefact.path)[0]
    damage(shard, 0)
    assert inspect(capsys, frames.artefact.path)[0] == 0
    code, _, err = inspect(capsys, frames.artefact.path, "--verify")
    assert code == 2
    assert f"lapa-ray inspect: {shard}: corrupt shard" in err


def test_all_faults_are_told(tmp_path, capsys):
    dataset = frames_artefact(tmp_path / "frames", [200, 100, 130, 5], height=40)
    for shard in shard_paths(dataset.artefact.path):
        damage(shard, 0)
    code, _, err = inspect(capsys, dataset.artefact.path, "--verify")
    assert code == 2
    assert "frames: 2 faults, listed above" in err
    for shard in shard_paths(dataset.artefact.path):
        assert f"{shard}: corrupt shard" in err


def damage(shard: Path, row_group: int) -> None:
    """Flip a bit in the middle of a page of screens."""
    with pq.ParquetFile(shard) as file:
        chunk = file.metadata.row_group(row_group).column(file.schema_arrow.names.index("screen"))
    content = bytearray(shard.read_bytes())
    content[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 16
    shard.write_bytes(content)
