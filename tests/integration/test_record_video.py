"""`record-video` with the micro chain's agent: the films show the episodes that a recording holds."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from lapa_ray import cli
from lapa_ray.core.artefact import open_artefact
from lapa_ray.core.pictures import to_rgb
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.videos import read_video
from lapa_ray.evaluation.play_panel import BEST, CHOSEN
from tests.support.interrupts import interrupt_when

NUM_STEPS, SCALE = 90, 2


def film(out: Path, agent: object, *more: str) -> int:
    fixed = [f"--max_steps={NUM_STEPS}", f"--scale={SCALE}", "--num_episodes=2"]
    return cli.main(["record-video", f"--agent={agent}", f"--out={out}", *fixed, *more])


@pytest.fixture(scope="module")
def films(chain, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("films") / "videos"
    assert film(out, chain.folder / "agent") == 0
    return out


def pictures(path: Path) -> np.ndarray:
    return np.array([picture for _, picture in read_video(path)])


def test_a_film_shows_the_episode_that_record_plays_for_the_same_seed_and_id(films, chain):
    dataset = FrameDataset.open(chain.folder / "frames")
    by_agent = [episode for episode in (0, 1) if dataset.policy(episode).startswith("agent")]
    assert by_agent
    for episode in by_agent:
        recorded = to_rgb(dataset.composites(episode)[: NUM_STEPS + 1], dataset.info.palette)
        shown = pictures(films / f"episode_{episode:06d}.mp4")
        assert len(shown) == NUM_STEPS + 1
        game = shown[:, SCALE // 2 : 210 * SCALE : SCALE, SCALE // 2 : 160 * SCALE : SCALE]
        assert np.abs(game.astype(int) - recorded).mean(axis=(1, 2, 3)).max() < 8  # the codec halves colours
        told = json.loads((films / f"episode_{episode:06d}.json").read_text())
        assert told == {"episode_return": dataset.steps(episode).rewards[:NUM_STEPS].sum(), "num_steps": NUM_STEPS}


def test_beside_the_game_stand_the_values_of_all_actions_and_the_one_taken(films):
    panel = pictures(films / "episode_000000.mp4")[-1][:, 160 * SCALE :].astype(int)
    marked = [(np.abs(panel - colour).max(axis=-1) < 40).sum() for colour in (CHOSEN, BEST)]
    assert max(marked) > 400  # the bar of the greatest value, whether it was taken or not
    assert marked[0] > 40
    assert (panel.max(axis=-1) > 150).sum() > 1000  # text and bars


def test_the_manifest_tells_what_was_filmed(films, chain):
    manifest = open_artefact(films, "videos").manifest
    assert manifest.parents["agent"].identity == open_artefact(chain.folder / "agent").identity
    assert manifest.figures["num_steps"] == 2 * NUM_STEPS
    assert re.fullmatch(r"DQN uniform, \d+ steps", manifest.figures["policy"])
    returns = [
        json.loads(path.read_text())["episode_return"] for path in films.glob("*.json") if "episode" in path.name
    ]
    assert manifest.figures["mean_return"] == sum(returns) / 2


def test_a_stop_keeps_the_films_that_are_whole_and_goes_on_behind_them(films, chain, tmp_path, monkeypatch, capfd):
    out = tmp_path / "videos"
    with monkeypatch.context() as patched:
        interrupt_when(patched, "advance", lambda count=1, note="": count == 1)
        assert film(out, chain.folder / "agent") == cli.EXIT_STOPPED
    assert "stopped with 1 of 2 films; add --resume to continue." in capfd.readouterr().err
    assert [path.name for path in sorted(out.glob("*.mp4"))] == ["episode_000000.mp4"]
    changed = (out / "episode_000000.mp4").stat().st_mtime_ns
    assert film(out, chain.folder / "agent", "--resume") == 0
    assert (out / "episode_000000.mp4").stat().st_mtime_ns == changed
    assert open_artefact(out).manifest.figures == open_artefact(films).manifest.figures


@pytest.mark.parametrize("who", ["random", "planner"])
def test_others_play_without_values(who, tmp_path):
    brief = ["--max_steps=3", "--num_episodes=1", "--fps=30", "--scale=1"]
    assert film(tmp_path / "videos", who, *brief) == 0
    film_of = tmp_path / "videos" / "episode_000000.mp4"
    assert pictures(film_of).shape[0] == 4
    capture = cv2.VideoCapture(str(film_of))
    assert capture.get(cv2.CAP_PROP_FPS) == 30
    capture.release()
    assert open_artefact(tmp_path / "videos").manifest.figures["policy"] == who


def test_bad_input_is_named_and_leaves_nothing(chain, tmp_path, capfd):
    other = tmp_path / "other"
    shutil.copytree(chain.folder / "agent", other, ignore=shutil.ignore_patterns("gameplay", "checkpoints"))
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["figures"]["num_actions"] = 4
    (other / "manifest.json").write_text(json.dumps(manifest))
    for agent, more, said in (
        (chain.folder / "frames", [], "holds a frames artefact; an agent (made by train-dqn) is expected"),
        (other, [], f"--agent {other}: has 4 actions, but MsPacman has 9 here; train it again."),
        ("random", ["--game=Pacmann"], "Pacmann: the ALE has no such game"),
        ("planner", ["--game=Breakout"], "Breakout"),
        ("random", ["--fps=0"], "--fps: should be FLOAT with 1 ≤ x ≤ 120; got 0"),
    ):
        assert film(tmp_path / "out", agent, *more) == cli.EXIT_BAD_INPUT
        err = capfd.readouterr().err
        assert said in err
        assert len(err.splitlines()) <= 2
        assert not (tmp_path / "out").exists()
