"""`import-frames` at the command line: what it stores, what it says, what it refuses by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from lapa_ray import cli
from lapa_ray.core.artefact import open_artefact
from lapa_ray.core.errors import LapaError, StoppedError
from lapa_ray.dataset.colours import Indexer, grey_palette
from lapa_ray.dataset.png_folders import read_pictures
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.sources import open_sources
from lapa_ray.envs.palette import ntsc_palette, pal_palette
from lapa_ray.stages import import_frames as stage
from tests.support.imports import (
    ale_pictures,
    grey_pictures,
    import_frames,
    rgb_pictures,
    shown,
    write_film,
    write_pngs,
    write_source,
)


@pytest.fixture
def source(tmp_path) -> Path:
    """Two good episodes of four pictures."""
    for number in range(2):
        write_pngs(tmp_path / "source" / f"e{number}", ale_pictures(4, number))
    return tmp_path / "source"


@pytest.fixture
def refused(tmp_path, capfd):
    """Import what must be refused; returns what is said. Nothing is written."""

    def run(source: Path, *options: str) -> str:
        capfd.readouterr()
        out = tmp_path / "out"
        assert cli.main(["import-frames", f"--source={source}", f"--out={out}", *options]) == cli.EXIT_BAD_INPUT
        lines = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("import-frames: look")]
        said = "\n".join(lines)
        assert said.startswith("lapa-ray import-frames: ")
        assert len(said.splitlines()) <= 2
        assert not out.exists()
        return said

    return run


def test_colours_of_the_ale_are_stored_as_its_indices(source, tmp_path):
    dataset = import_frames(source, tmp_path / "out")
    assert (dataset.info.channels, dataset.info.frame_skip) == (1, 1)
    np.testing.assert_array_equal(dataset.info.palette, ntsc_palette())
    assert (dataset.screens(0) % 2 == 0).all()
    assert dataset.artefact.manifest.figures["palette"] == "ntsc"


@pytest.mark.parametrize(
    ("pictures", "palette", "channels"),
    [
        (pal_palette()[2 * np.random.default_rng(0).integers(8, 120, (4, 6, 4))], "pal", 1),
        (grey_pictures(4), "grey", 1),
        (rgb_pictures(4), "none: RGB", 3),
    ],
)
def test_other_colours(tmp_path, pictures, palette, channels, capfd):
    write_pngs(tmp_path / "e", pictures)
    dataset = import_frames(tmp_path / "e", tmp_path / "out")
    assert dataset.artefact.manifest.figures["palette"] == palette
    assert dataset.info.channels == channels
    assert ("stored as RGB" in capfd.readouterr().err) == (channels == 3)


def test_one_strange_pixel_makes_rgb_of_the_whole_set(tmp_path):
    first, second = ale_pictures(4), ale_pictures(4, 1)
    second[3, 2, 1] = (1, 2, 3)
    write_pngs(tmp_path / "source" / "e0", first)
    write_pngs(tmp_path / "source" / "e1", second)
    dataset = import_frames(tmp_path / "source", tmp_path / "out")
    assert dataset.info.channels == 3
    np.testing.assert_array_equal(shown(dataset)[0], first)
    np.testing.assert_array_equal(shown(dataset)[1], second)


def test_what_is_unknown_is_said(source, tmp_path):
    dataset = import_frames(source, tmp_path / "out", "--game=Pong")
    assert dataset.info.game == "Pong"
    assert dataset.info.unknown == (
        *("ram", "lives", "sticky_probability", "emulator"),
        *("action", "executed_action", "reward"),
    )
    steps = dataset.steps(0)
    assert steps.ram is None
    assert steps.actions.tolist() == [-1, -1, -1]
    assert steps.truncated.tolist() == [False, False, True]
    assert not steps.terminated.any()
    assert open_artefact(tmp_path / "out").manifest.figures["mean_return"] is None


def test_pictures_come_in_numeric_order(tmp_path):
    pictures = ale_pictures(12)
    write_pngs(tmp_path / "e", pictures)
    np.testing.assert_array_equal(shown(import_frames(tmp_path / "e", tmp_path / "out"))[0], pictures)


def test_steps_of_png_folders(source, tmp_path):
    for number in range(2):
        (source / f"e{number}" / "steps.csv").write_text("action, reward\n1,0\n0,10.5\n2,-3\n")
    dataset = import_frames(source, tmp_path / "out", '--action_meanings=["NOOP", "UP", "DOWN"]')
    steps = dataset.steps(1)
    assert steps.actions.tolist() == [1, 0, 2]
    assert steps.rewards.tolist() == [0, 10.5, -3]
    assert steps.executed_actions.tolist() == [-1] * 3
    assert dataset.info.action_meanings == ("NOOP", "UP", "DOWN")
    assert "action" not in dataset.info.unknown
    assert "executed_action" in dataset.info.unknown
    assert dataset.artefact.manifest.figures["mean_return"] == 7.5


def test_steps_of_arrays_and_videos(tmp_path):
    (tmp_path / "source").mkdir()
    told = {"action": np.array([0, 3, 1]), "executed_action": np.array([0, 0, 1])}
    np.savez(tmp_path / "source" / "1.npz", frames=ale_pictures(4), **told)
    write_film(tmp_path / "source" / "2.mp4", ale_pictures(4))
    (tmp_path / "source" / "2.csv").write_text("action,executed_action\n0,0\n3,0\n1,1\n")
    np.save(tmp_path / "source" / "3.npy", ale_pictures(4))
    shutil.copy(tmp_path / "source" / "2.csv", tmp_path / "source" / "3.csv")
    dataset = import_frames(tmp_path / "source", tmp_path / "out")
    assert dataset.episode_ids == [1, 2, 3]
    for episode_id in dataset.episode_ids:
        assert dataset.steps(episode_id).actions.tolist() == [0, 3, 1]
        assert dataset.steps(episode_id).executed_actions.tolist() == [0, 0, 1]
    assert dataset.info.action_meanings == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["e2", "e10", "e1"], {1: "e1", 2: "e2", 10: "e10"}),
        (["b", "a10", "a9"], {0: "a9", 1: "a10", 2: "b"}),
        (["x1", "y1"], {0: "x1", 1: "y1"}),
    ],
)
def test_ids_of_episodes(tmp_path, names, ids):
    for name in names:
        write_pngs(tmp_path / name, ale_pictures(2))
    assert {episode_id: source.name for episode_id, source in open_sources(tmp_path).items()} == ids


def test_lossy_video_is_stored_as_decoded_and_said_to_be(tmp_path, capfd):
    write_film(tmp_path / "film.mp4", ale_pictures(5, height=210, width=160), lossless=False)
    dataset = import_frames(tmp_path / "film.mp4", tmp_path / "out")
    assert dataset.info.channels == 3
    assert dataset.num_steps(0) == 4
    assert "Video usually loses detail" in capfd.readouterr().err


def test_indices_of_equal_colours_are_the_lowest_even_ones():
    for palette in (ntsc_palette(), pal_palette(), grey_palette()):
        indices = Indexer(palette)(palette[None])
        assert indices is not None
        for index, found in enumerate(indices[0]):
            same = np.flatnonzero((palette == palette[index]).all(axis=1))
            assert found == min(same, key=lambda place: (place % 2, place))


def break_gap(source: Path) -> None:
    (source / "e1" / "2.png").unlink()


def break_start(source: Path) -> None:
    (source / "e1" / "0.png").unlink()


def break_name(source: Path) -> None:
    (source / "e1" / "2.png").rename(source / "e1" / "two.png")


def break_twins(source: Path) -> None:
    shutil.copy(source / "e1" / "2.png", source / "e1" / "02.png")


def break_size(source: Path) -> None:
    cv2.imwrite(str(source / "e1" / "2.png"), np.zeros((9, 4, 3), np.uint8))


def break_bytes(source: Path) -> None:
    content = (source / "e1" / "2.png").read_bytes()
    (source / "e1" / "2.png").write_bytes(content[:-20])


def break_empty(source: Path) -> None:
    (source / "e1" / "2.png").write_bytes(b"")


def break_depth(source: Path) -> None:
    cv2.imwrite(str(source / "e1" / "2.png"), np.zeros((6, 4, 3), np.uint16))


def break_alpha(source: Path) -> None:
    cv2.imwrite(str(source / "e1" / "2.png"), np.zeros((6, 4, 4), np.uint8))


def break_folder(source: Path) -> None:
    shutil.rmtree(source / "e1")
    (source / "e1").mkdir()


def break_single(source: Path) -> None:
    for number in (1, 2, 3):
        (source / "e1" / f"{number}.png").unlink()


def break_stranger(source: Path) -> None:
    (source / "notes.txt").write_text("precious")


def break_length(source: Path) -> None:
    for name in ("e0", "e1"):
        (source / name / "steps.csv").write_text("action\n1\n1\n1\n")
    (source / "e1" / "steps.csv").write_text("action\n1\n1\n")


def break_missing_steps(source: Path) -> None:
    (source / "e0" / "steps.csv").write_text("action\n1\n1\n1\n")


def break_column(source: Path) -> None:
    (source / "e1" / "steps.csv").write_text("joystick\n1\n1\n1\n")


def break_value(source: Path) -> None:
    (source / "e1" / "steps.csv").write_text("action\n1\nleft\n1\n")


def break_range(source: Path) -> None:
    (source / "e1" / "steps.csv").write_text("action\n1\n1\n300\n")


def break_sign(source: Path) -> None:
    (source / "e1" / "steps.csv").write_text("action\n1\n1\n-1\n")


def break_row(source: Path) -> None:
    (source / "e1" / "steps.csv").write_text("action,reward\n1,0\n1\n1,0\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_gap, "e1: 2.png is missing, while there is 3.png"),
        (break_start, "e1: 0.png is missing"),
        (break_name, "e1/two.png: is no picture of an episode"),
        (break_twins, "e1/2.png: 02.png has the same number"),
        (break_size, "e1/2.png: has 9×4 pixels, but "),
        (break_bytes, "e1/2.png: cannot be decoded"),
        (break_empty, "e1/2.png: cannot be decoded"),
        (break_depth, "e1/2.png: has 16 bits a channel"),
        (break_alpha, "e1/2.png: is transparent in places"),
        (break_folder, "e1: holds no pictures"),
        (break_single, "e1: holds 1 picture; an episode needs at least two"),
        (break_stranger, "notes.txt: is no episode"),
        (
            break_length,
            "e1: has 3 steps (4 pictures, the first before the first step, 1 a step), but action is told of 2",
        ),
        (break_missing_steps, "e1: of its steps nothing is told, of those of"),
        (break_column, "e1/steps.csv: its first line must name its columns"),
        (break_value, "e1/steps.csv: line 3: action must be a whole number, not 'left'"),
        (break_range, "e1/steps.csv: action must be one row of whole numbers from 0 to 127"),
        (break_sign, "e1/steps.csv: action holds -1"),
        (break_row, "e1/steps.csv: line 3 has 1 values, its header 2"),
    ],
)
def test_png_folders_that_do_not_fit(source, refused, damage, message):
    damage(source)
    assert message in refused(source)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", b"", "a.npy: cannot be read as a NumPy file"),
        ("a.npy", np.zeros((4, 6, 4), np.float32), "a.npy: its frames are float32 [4, 6, 4]; they must be uint8"),
        ("a.npy", np.zeros((4, 6, 4, 2), np.uint8), "a.npy: its frames are uint8 [4, 6, 4, 2]"),
        ("a.npy", np.zeros((4, 0, 4), np.uint8), "a.npy: its frames are uint8 [4, 0, 4]"),
        ("a.npy", np.zeros((0, 6, 4), np.uint8), "a.npy: holds 0 pictures"),
        ("a.npz", b"PK", "a.npz: cannot be read as a NumPy file"),
        ("a.npz", {"pictures": np.zeros((4, 6, 4), np.uint8)}, "a.npz: holds no array 'frames', but pictures.npy"),
        ("a.npz", {"frames": np.asfortranarray(grey_pictures(4))}, "a.npz: its frames lie in Fortran order"),
        ("a.npz", {"frames": grey_pictures(4), "action": np.zeros(4, int)}, "a.npz: has 3 steps"),
        ("a.npz", {"frames": grey_pictures(4), "action": np.zeros((3, 1), int)}, "a.npz: action must be one row"),
        ("a.npz", {"frames": grey_pictures(4), "reward": np.array([0, np.nan, 0])}, "a.npz: reward must be one row"),
        ("a.mp4", b"no film", "a.mp4: cannot be decoded"),
        ("a.gif", b"GIF", "a.gif: cannot be imported"),
    ],
)
def test_files_that_do_not_fit(tmp_path, refused, name, content, message):
    path = tmp_path / name
    if isinstance(content, dict):
        np.savez(path, **content)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    assert message in refused(path)


def test_a_pickle_is_never_opened(tmp_path, refused):
    np.save(tmp_path / "a.npy", np.array([{"boom": 1}], dtype=object), allow_pickle=True)
    assert "a.npy: cannot be read as a NumPy file" in refused(tmp_path / "a.npy")


def test_nothing_there(tmp_path, refused):
    assert "none: no such file or directory" in refused(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "empty: holds no pictures" in refused(tmp_path / "empty")


def test_too_few_names_of_actions(source, refused):
    for number in range(2):
        (source / f"e{number}" / "steps.csv").write_text("action\n1\n2\n1\n")
    assert "--action_meanings: names 1 actions, but the steps use action 2" in refused(
        source, '--action_meanings=["NOOP"]'
    )


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.999])
def test_video_cut_short_is_refused(tmp_path, refused, share):
    """MP4 with its index in front, as for the web, and Matroska: both open although their end is missing."""
    import av

    write_film(tmp_path / "whole.mp4", rgb_pictures(30, height=32, width=32))
    with (
        av.open(str(tmp_path / "whole.mp4")) as whole,
        av.open(str(tmp_path / "web.mp4"), "w", format="mp4", options={"movflags": "faststart"}) as web,
    ):
        track = web.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.dts is not None:
                packet.stream = track
                web.mux(packet)
    content = (tmp_path / "web.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: int(share * len(content))])
    assert "cut.mp4" in refused(tmp_path / "cut.mp4")


def test_the_same_output_for_other_pictures_is_refused(source, tmp_path, capfd):
    import_frames(source, tmp_path / "out")
    before = (tmp_path / "out" / "manifest.json").read_bytes()
    arguments = ["import-frames", f"--source={source}", f"--out={tmp_path / 'out'}"]
    assert cli.main(arguments) == 0, "the same pictures are there already"
    write_source("png", source / "e2", ale_pictures(3))
    capfd.readouterr()
    assert cli.main(arguments) == cli.EXIT_BAD_INPUT
    assert "holds a finished frames artefact of another run (content: " in capfd.readouterr().err
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before


def test_a_stopped_import_is_resumed(source, tmp_path, monkeypatch):
    expected = shown(import_frames(source, tmp_path / "expected"))
    wanted = stage.ImportFramesConfig(source=source, out=tmp_path / "out")
    real = stage.import_episode

    def import_then_stop(writer, survey, episode_id, *rest):
        real(writer, survey, episode_id, *rest)
        signal_stop()

    def signal_stop():
        import os
        import signal

        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(stage, "import_episode", import_then_stop)
    with pytest.raises(StoppedError, match="stopped with 1 of 2 episodes"):
        stage.run(wanted)
    monkeypatch.setattr(stage, "import_episode", real)
    stage.run(wanted.model_copy(update={"resume": True}))
    found = shown(FrameDataset.open(tmp_path / "out"))
    assert list(found) == [0, 1]
    for episode_id in found:
        np.testing.assert_array_equal(found[episode_id], expected[episode_id])


def test_a_shard_of_an_import_explains_itself(source, tmp_path):
    import pyarrow.parquet as pq

    import_frames(source, tmp_path / "out", "--game=Pong")
    said = json.loads(pq.read_schema(next((tmp_path / "out").glob("*.parquet"))).metadata[b"lapa_ray"])
    assert (said["policy"], said["game"], said["channels"]) == ("imported", "Pong", 1)
    assert "ram" in said["unknown"]


def test_a_damaged_png_is_refused_wherever_the_damage_is(tmp_path):
    picture = ale_pictures(1)
    write_pngs(tmp_path / "e", picture)
    path = tmp_path / "e" / "0.png"
    content = path.read_bytes()
    for place in range(len(content)):
        for damaged in (content[:place], content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]):
            path.write_bytes(damaged)
            with pytest.raises(LapaError, match=r"0\.png: cannot be decoded"):
                list(read_pictures([path]))
