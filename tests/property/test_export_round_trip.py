"""Frames that are exported and imported again are the same: every pixel, every action, every reward."""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapa_ray import cli
from lapa_ray.core.artefact import Draft
from lapa_ray.core.config import StageConfig
from lapa_ray.core.frames import NO_ACTION, RAM_BYTES, StepFrames
from lapa_ray.core.pictures import to_rgb
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.summary import frame_figures
from lapa_ray.dataset.writer import FrameWriter
from lapa_ray.envs.palette import ntsc_palette
from tests.property.test_rgb_frames import rgb_info
from tests.support.counter_env import CounterEnv
from tests.support.imports import import_frames, shown

ACTIONS = ("NOOP", "UP")


def make_frames(out: Path, lengths: list[int], frame_skip: int, seed: int, *, rgb: bool) -> FrameDataset:
    """Episodes of noise, `lengths` steps each, the last step of each one frame short where it can be."""
    generator = np.random.default_rng(seed)
    info = rgb_info(height=6, width=4)
    info = info.__class__(**{**vars(info), "frame_skip": frame_skip})
    if not rgb:
        info = info.__class__(**{**vars(info), "palette": ntsc_palette(), "channels": 1})
    draft = Draft.begin(StageConfig(out=out), "frames")
    with FrameWriter(out, info, "noise", "nobody") as writer:
        for place, length in enumerate(lengths):
            writer.begin_episode(3 * place + 1)
            for step in range(length + 1):
                count = 1 if step == 0 else max(frame_skip - (step == length), 1)
                screens = generator.integers(0, 128 if info.channels == 1 else 256, (count, *info.screen_shape))
                frames = StepFrames(
                    (screens * 2 if info.channels == 1 else screens).astype(np.uint8),
                    np.zeros((count, RAM_BYTES), np.uint8),
                    generator.integers(0, 2, count, dtype=np.int8),
                    generator.normal(size=count).astype(np.float32),
                    np.zeros(count, np.int8),
                )
                action = int(generator.integers(2)) if step else NO_ACTION
                writer.append(action, frames, terminated=False, truncated=False)
            writer.end_episode()
    draft.finish(frame_figures(out))
    return FrameDataset.open(out)


def export(frames: Path, out: Path, *options: str) -> None:
    assert cli.main(["export-frames", f"--frames={frames}", f"--out={out}", *options]) == 0


def assert_same_steps(again: FrameDataset, dataset: FrameDataset) -> None:
    assert again.episode_ids == dataset.episode_ids
    for episode_id in dataset.episode_ids:
        there, here = dataset.steps(episode_id), again.steps(episode_id)
        np.testing.assert_array_equal(here.actions, there.actions)
        np.testing.assert_array_equal(here.executed_actions, there.executed_actions)
        np.testing.assert_array_equal(here.rewards, there.rewards)


@pytest.mark.parametrize("form", ["png", "npz", "mp4"])
@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.integers(1, 4), st.booleans(), st.integers(0, 99))
def test_all_frames_there_and_back(form: str, lengths: list[int], frame_skip: int, rgb: bool, seed: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = make_frames(folder / "frames", lengths, frame_skip, seed, rgb=rgb)
        export(folder / "frames", folder / "export", f"--format={form}")
        again = import_frames(folder / "export", folder / "again", f"--frame_skip={frame_skip}")
        assert again.info.channels == dataset.info.channels
        assert_same_steps(again, dataset)
        for episode_id in dataset.episode_ids:
            np.testing.assert_array_equal(again.screens(episode_id), dataset.screens(episode_id))


@pytest.mark.parametrize("form", ["png", "npz", "mp4"])
@pytest.mark.parametrize("composite", ["max4", "max2", "last"])
@pytest.mark.parametrize("rgb", [False, True])
def test_composites_there_and_back(tmp_path, form, composite, rgb):
    dataset = make_frames(tmp_path / "frames", [70, 2], 4, 0, rgb=rgb)
    export(tmp_path / "frames", tmp_path / "export", f"--format={form}", f"--pictures={composite}")
    again = import_frames(tmp_path / "export", tmp_path / "again")
    assert_same_steps(again, dataset)
    for episode_id, pictures in shown(again).items():
        expected = to_rgb(dataset.composites(episode_id, composite), dataset.info.palette)
        np.testing.assert_array_equal(pictures, expected)


def test_what_other_programs_see(tmp_path):
    dataset = make_frames(tmp_path / "frames", [2], 4, 0, rgb=False)
    rgb = to_rgb(dataset.screens(1), dataset.info.palette)
    export(tmp_path / "frames", tmp_path / "png")
    folder = tmp_path / "png" / "episode_000001"
    assert {file.name for file in folder.iterdir()} == {"steps.csv", *(f"{number}.png" for number in range(len(rgb)))}
    for number, picture in enumerate(rgb):
        np.testing.assert_array_equal(cv2.imread(str(folder / f"{number}.png"))[..., ::-1], picture)
    export(tmp_path / "frames", tmp_path / "npz", "--format=npz")
    with np.load(tmp_path / "npz" / "episode_000001.npz") as archive:
        np.testing.assert_array_equal(archive["frames"], rgb)
        assert archive["action"].tolist() == dataset.steps(1).actions.tolist()
    assert (folder / "steps.csv").read_text().splitlines()[0] == "action,executed_action,reward"


@pytest.mark.parametrize(("pictures", "rate"), [("all", 60), ("max4", 15)])
def test_a_video_for_every_player(tmp_path, pictures, rate):
    import av

    make_frames(tmp_path / "frames", [3], 4, 0, rgb=False)
    export(tmp_path / "frames", tmp_path / "mp4", "--format=mp4", "--lossless=false", f"--pictures={pictures}")
    with av.open(str(tmp_path / "mp4" / "episode_000001.mp4")) as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == rate
        assert (stream.height, stream.width) == (6, 4)


def test_odd_sizes_are_refused_where_colours_are_halved(tmp_path, capfd):
    draft = Draft.begin(StageConfig(out=tmp_path / "frames"), "frames")
    env = CounterEnv(height=5)
    with FrameWriter(draft.path, env.info, "odd", "nobody") as writer:
        writer.begin_episode(0)
        writer.append(NO_ACTION, env.reset(0).frames, terminated=False, truncated=False)
        writer.append(1, env.step(1).frames, terminated=False, truncated=False)
    draft.finish(frame_figures(draft.path))
    command = ["export-frames", f"--frames={draft.path}", f"--out={tmp_path / 'out'}", "--format=mp4"]
    assert cli.main([*command, "--lossless=false"]) == cli.EXIT_BAD_INPUT
    assert "--lossless false: stores colours of 2×2 pixels, and the pictures have 5×" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()
    assert cli.main(command) == 0


def test_what_is_unknown_is_not_exported(tmp_path):
    np.save(tmp_path / "film.npy", np.zeros((3, 6, 4), np.uint8))
    import_frames(tmp_path / "film.npy", tmp_path / "frames")
    export(tmp_path / "frames", tmp_path / "png")
    assert not (tmp_path / "png" / "episode_000000" / "steps.csv").exists()


def test_a_killed_export_is_resumed(tmp_path, monkeypatch):
    from lapa_ray.dataset import exports

    make_frames(tmp_path / "frames", [3, 4, 5], 2, 0, rgb=False)
    export(tmp_path / "frames", tmp_path / "expected")
    command = ["export-frames", f"--frames={tmp_path / 'frames'}", f"--out={tmp_path / 'out'}"]
    real, calls = exports.write_steps, []

    def write_then_die(path, steps):
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(path, steps)

    monkeypatch.setattr(exports, "write_steps", write_then_die)
    assert cli.main(command) == cli.EXIT_STOPPED
    assert [path.name for path in sorted((tmp_path / "out").glob("e*"))] == ["episode_000001"]
    monkeypatch.undo()
    assert cli.main([*command, "--resume"]) == 0

    def payload(folder: Path) -> dict[str, bytes]:
        files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".json")
        return {str(file.relative_to(folder)): file.read_bytes() for file in files}

    assert payload(tmp_path / "out") == payload(tmp_path / "expected")
