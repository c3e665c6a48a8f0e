"""Output folders that refuse: full, read-only, or another process's. Exit code 2, what and where, nothing harmed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lapa_ray import cli
from lapa_ray.core import artefact
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.shards import shard_paths
from tests.support.imports import import_frames, rgb_pictures, write_pngs
from tests.support.recordings import frames_artefact
from tests.support.small_disk import mounted_tmpfs

ROOT = Path(__file__).parents[2]
WAIT_S = 120


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    """Two episodes of noise: 36 and 48 MB of RGB that no compression makes smaller."""
    folder = tmp_path_factory.mktemp("film")
    for number, count in ((1, 360), (2, 480)):
        np.save(folder / f"{number}.npy", rgb_pictures(count, number, 210, 160))
    return folder


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A real file system of 68 MB: enough to begin."""
    with mounted_tmpfs(tmp_path / "disk", "size=68m") as path:
        yield path


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


def test_a_disk_that_fills_up_during_an_import(film, disk, capfd):
    command = ["import-frames", f"--source={film}", f"--out={disk / 'out'}", "--compression_level=1"]
    capfd.readouterr()
    assert cli.main(command) == cli.EXIT_BAD_INPUT
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith("lapa-ray import-frames: No space left on device: ")
    assert said.endswith("Make room, then add --resume.")
    assert {path.name for path in (disk / "out").iterdir()} == {"run.json"}
    remount(disk, "size=300m")
    dataset = import_frames(film, disk / "out", "--compression_level=1", "--resume")
    np.testing.assert_array_equal(dataset.screens(2), np.load(film / "2.npy"))


def test_a_disk_that_fills_up_during_an_export(film, disk, tmp_path, capfd):
    import_frames(film, tmp_path / "frames", "--compression_level=1")
    command = ["export-frames", f"--frames={tmp_path / 'frames'}", f"--out={disk / 'out'}"]
    capfd.readouterr()
    assert cli.main(command) == cli.EXIT_BAD_INPUT
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith("lapa-ray export-frames: No space left on device: ")
    assert {path.name for path in (disk / "out").iterdir() if not path.name.startswith(".tmp-")} == {
        "run.json",
        "episode_000001",
    }
    remount(disk, "size=300m")
    assert cli.main([*command, "--resume"]) == 0, capfd.readouterr().err
    assert len(list((disk / "out" / "episode_000002").iterdir())) == 480
    assert not list((disk / "out").glob(".tmp-*"))


def test_a_disk_that_fills_up_during_a_recording(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(artefact, "MIN_FREE_BYTES", 0)
    with mounted_tmpfs(tmp_path / "disk", "size=300k") as disk:
        command = [
            *("record", "--agent=random", f"--out={disk / 'out'}", "--num_episodes=4", "--env.max_frames=2000"),
            *("--resources.num_workers=1", "--ray.num_cpus=1", "--ray.object_store_mb=80"),
        ]
        assert cli.main(command) == cli.EXIT_BAD_INPUT
        said = capfd.readouterr().err.splitlines()[-1]
        assert said.startswith("lapa-ray record: ")
        assert "No space left on device" in said
        assert "Make room, then add --resume." in said
        assert str(disk / "out") in said
        assert not shard_paths(disk / "out")
        remount(disk, "size=300m")
        assert cli.main([*command, "--resume"]) == 0, capfd.readouterr().err
        assert FrameDataset.open(disk / "out").episode_ids == [0, 1, 2, 3]
        assert not list((disk / "out").glob(".tmp-*"))


def commands(source: Path, frames: Path, out: Path) -> list[list[str]]:
    return [
        ["import-frames", f"--source={source}", f"--out={out}"],
        ["export-frames", f"--frames={frames}", f"--out={out}"],
        ["record", "--agent=random", f"--out={out}"],
    ]


def test_a_read_only_disk(disk, tmp_path, capfd):
    """What lies there can be read; nothing can be written. Root is refused too."""
    write_pngs(disk / "source" / "e0", rgb_pictures(3))
    frames = frames_artefact(disk / "frames", [3, 3], height=40).artefact.path
    (disk / "empty").mkdir()
    remount(disk, "ro")
    for out in (disk / "empty", disk / "new" / "deep"):
        for command in commands(disk / "source", frames, out):
            capfd.readouterr()
            assert cli.main(command) == cli.EXIT_BAD_INPUT
            said = capfd.readouterr().err.splitlines()[-1]
            assert said.startswith(f"lapa-ray {command[0]}: ")
            assert "Read-only file system" in said
            assert str(out) in said or str(out.parent) in said
            assert "hoose" in said
    assert list((disk / "empty").iterdir()) == []
    assert cli.main(["inspect", str(frames), "--verify"]) == 0
    assert cli.main(["inspect", str(frames), f"--contact_sheet={disk / 'sheet.png'}"]) == cli.EXIT_BAD_INPUT
    assert cli.main(["export-frames", f"--frames={frames}", f"--out={tmp_path / 'export'}"]) == 0


def test_a_directory_of_somebody_else(tmp_path):
    """As a user without rights, since root may write everywhere; it may not read Python, so that is loaded before."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    source, locked = tmp_path / "source", tmp_path / "locked"
    write_pngs(source / "e0", rgb_pictures(3))
    locked.mkdir(mode=0o555)
    script = (
        "import os, sys; import cv2, encodings.idna; from lapa_ray import cli\n"
        "from lapa_ray.core import artefact, command_line; from lapa_ray.stages import import_frames\n"
        "os.setgid(65534); os.setuid(65534); sys.exit(cli.main(sys.argv[1:]))"
    )
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    for out in (locked, locked / "new"):
        command = [sys.executable, "-c", script, "import-frames", f"--source={source}", f"--out={out}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == cli.EXIT_BAD_INPUT, done.stderr
        assert "Permission denied" in done.stderr.splitlines()[-1]
        assert str(locked) in done.stderr.splitlines()[-1]
    assert list(locked.iterdir()) == []


@pytest.fixture
def slow_import(film, tmp_path) -> Iterator[tuple[list[str], subprocess.Popen[bytes]]]:
    """An import that stands still in the middle, and its command."""
    command = ["import-frames", f"--source={film}", f"--out={tmp_path / 'out'}", "--compression_level=1"]
    process = subprocess.Popen([sys.executable, "-m", "lapa_ray.cli", *command], cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + WAIT_S
    while not list((tmp_path / "out").glob(".tmp-*-import")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGSTOP)
    yield command, process
    process.kill()
    process.wait()


def contents(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_size for path in folder.rglob("*")}


def test_two_at_one_directory(slow_import, film, tmp_path, capfd):
    command, process = slow_import
    assert process.poll() is None
    before = contents(tmp_path / "out")
    recording = ["record", "--agent=random", f"--out={tmp_path / 'out'}"]
    for second in (command, [*command, "--resume"], [*command, "--game=Pong"], recording, [*recording, "--resume"]):
        capfd.readouterr()
        assert cli.main(second) == cli.EXIT_BAD_INPUT
        said = capfd.readouterr().err.splitlines()[-1]
        assert said == (
            f"lapa-ray {second[0]}: --out {tmp_path / 'out'}: another lapa-ray is writing there; "
            "wait for its end, or choose another."
        )
        assert contents(tmp_path / "out") == before
    os.kill(process.pid, signal.SIGCONT)
    assert process.wait(WAIT_S) == 0
    np.testing.assert_array_equal(FrameDataset.open(tmp_path / "out").screens(1), np.load(film / "1.npy"))


def test_a_killed_one_blocks_nobody(slow_import, film, tmp_path, capfd):
    command, process = slow_import
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert list((tmp_path / "out").glob(".tmp-*"))
    assert cli.main(command) == cli.EXIT_BAD_INPUT
    assert "add --resume to continue it" in capfd.readouterr().err
    assert cli.main([*command, "--resume"]) == 0
    assert not list((tmp_path / "out").glob(".tmp-*"))
    dataset = FrameDataset.open(tmp_path / "out")
    assert dataset.episode_ids == [1, 2]
    np.testing.assert_array_equal(dataset.screens(2), np.load(film / "2.npy"))


def test_a_whole_artefact_is_never_touched(film, tmp_path, capfd):
    small = tmp_path / "small"
    small.mkdir()
    shutil.copy(film / "1.npy", small / "1.npy")
    import_frames(small, tmp_path / "out", "--compression_level=1")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for options in ([], ["--resume"], ["--game=Pong"]):
        code = cli.main(["import-frames", f"--source={small}", f"--out={tmp_path / 'out'}", *options])
        assert code == (cli.EXIT_BAD_INPUT if options == ["--game=Pong"] else 0)
        assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
