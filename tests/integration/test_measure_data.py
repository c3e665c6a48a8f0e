"""`measure-data` on real play: its figures are those of plain NumPy, and what it calls frozen no control moves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lapa_ray import cli
from lapa_ray.core.artefact import Draft, open_artefact
from lapa_ray.core.config import PlainStageConfig
from lapa_ray.core.frames import NO_ACTION
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.summary import frame_figures
from lapa_ray.dataset.writer import FrameWriter
from lapa_ray.envs.atari_env import AtariEnv, AtariEnvConfig
from lapa_ray.envs.emulator import load_emulator
from lapa_ray.envs.entities import entities_of
from lapa_ray.envs.mazes import cell_of
from lapa_ray.envs.ms_pacman import X, Y
from lapa_ray.evaluation.data_quality import Measured
from lapa_ray.evaluation.data_quality_tally import frozen_steps
from tests.support.small_chain import write_episode, write_frames

FRAMES = 1200
"""Emulator frames of an episode: the intro and a life or two."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_frames(folder / "a", num_episodes=3, max_frames=FRAMES)
    write_frames(folder / "b", num_episodes=2, max_frames=400, seed=1)
    write_other_game(folder / "breakout", "Breakout")
    write_other_game(folder / "pong", "Pong")
    assert cli.main(["measure-data", str(folder / "a"), "--out", str(folder / "one")]) == 0
    return folder


def write_other_game(out: Path, game: str) -> None:
    draft = Draft.begin(PlainStageConfig(out=out, seed=sum(game.encode())), "frames")
    env, generator = AtariEnv(AtariEnvConfig(game=game, max_frames=80)), np.random.default_rng(0)
    with FrameWriter(out, env.info, "frames", "random") as writer:
        write_episode(writer, env, 0, generator)
    draft.finish(frame_figures(out))


def test_figures_are_those_of_plain_numpy(folder: Path) -> None:
    dataset, found = FrameDataset.open(folder / "a"), open_artefact(folder / "one", "data_quality").manifest.figures
    returns = [dataset.episode_return(episode) for episode in dataset.episode_ids]
    assert found["frames_return_mean"] == pytest.approx(np.mean(returns))
    pictures = np.concatenate([dataset.composites(episode) for episode in dataset.episode_ids])
    num_distinct = len({picture.tobytes() for picture in pictures})
    assert found["frames_distinct_screens"] == num_distinct
    assert found["frames_distinct_screens_share"] == pytest.approx(num_distinct / len(pictures))
    tables = [dataset.steps(episode) for episode in dataset.episode_ids]
    same = np.concatenate([table.actions == table.executed_actions for table in tables])
    assert found["frames_as_asked_share"] == pytest.approx(same.mean())
    shares = np.bincount(np.concatenate([table.actions for table in tables])) / len(same)
    assert found["frames_action_entropy_bits"] == pytest.approx(-(shares * np.log2(shares)).sum())
    lost = [np.maximum(-np.diff(table.lives), 0).sum() for table in tables]
    assert found["frames_lives_lost_mean"] == pytest.approx(np.mean(lost))


def test_play_is_what_ram_says(folder: Path) -> None:
    dataset, found = FrameDataset.open(folder / "a"), open_artefact(folder / "one").manifest.figures
    visited, num_play, num_steps, dots = set(), 0, 0, []
    for episode in dataset.episode_ids:
        ram = dataset.steps(episode).ram
        assert ram is not None
        frozen = frozen_steps(entities_of("MsPacman").read(ram))
        in_play = ram[1:][~frozen]
        visited |= set(cell_of(in_play[:, X["player"]], in_play[:, Y["player"]]).tolist())
        num_play, num_steps = num_play + len(in_play), num_steps + len(frozen)
        dots.append(int(ram[-1, 119]))
    assert found["frames_frozen_share"] == pytest.approx(1 - num_play / num_steps)
    exhibit = Measured.load(folder / "one").exhibits[0]
    assert set(np.flatnonzero(exhibit.player_cells[0]).tolist()) == visited
    assert exhibit.player_cells.sum() == num_play
    assert found["frames_dots_eaten_mean"] == pytest.approx(np.mean(dots))
    assert exhibit.dots[-1, 0] == pytest.approx(np.mean(dots))
    assert exhibit.actions.sum() == num_steps


def test_no_control_has_an_effect_in_frozen_steps_and_some_in_others() -> None:
    """Every action is tried from every state of some play, by clone and restore."""
    ale, generator = load_emulator("MsPacman"), np.random.default_rng(0)
    actions = ale.getMinimalActionSet()
    ale.reset_game()
    states, num_places, action = [ale.getRAM()], [], 0
    while not ale.game_over() and len(states) < 360:
        before = ale.cloneState()
        places = set()
        for other in range(len(actions)):
            play(ale, actions[other])
            places.add(bytes(ale.getRAM()[[X["player"], Y["player"]]]))
            ale.restoreState(before)
        num_places.append(len(places))
        # It stands still in the end, for the ghosts to come.
        action = 0 if len(states) > 120 else int(generator.integers(1, 5)) if generator.random() < 0.3 else action
        play(ale, actions[action])
        states.append(ale.getRAM())
    frozen = frozen_steps(entities_of("MsPacman").read(np.array(states)))
    has_effect = np.array(num_places) > 1
    assert frozen[:66].all()  # the intro
    assert (np.diff(frozen[66:].astype(int)) == 1).sum() >= 1  # a death
    assert not (frozen & has_effect).any()
    assert has_effect[~frozen].mean() > 0.9
    x, y = (np.array(states)[:, list(table.values())].astype(int) for table in (X, Y))
    moved = (abs(np.diff(x, axis=0)) + abs(np.diff(y, axis=0)))[:, :5].max(axis=1)  # all but the fruit
    assert (moved[frozen] > 0).sum() <= np.diff(frozen[66:].astype(int)).clip(
        0
    ).sum()  # once a death: back to the start
    assert (moved[~frozen] > 0).mean() > 0.98


def play(ale, action) -> None:
    for _ in range(4):
        ale.act(action)


def test_datasets_of_different_games_stand_side_by_side(folder: Path, tmp_path: Path, capsys) -> None:
    names = [str(folder / name) for name in ("a", "b", "breakout", "pong")]
    assert cli.main(["measure-data", *names, "--out", str(tmp_path / "out"), "--composite", "last"]) == 0
    told = capsys.readouterr().out
    for said in ("random, a", "random, b", "random, breakout", "Return, points", "in brackets"):
        assert said.lower() in " ".join(told.lower().split())
    assert "random, pong: – is not measured: what the RAM of Pong means is not known" in " ".join(told.split())
    assert "random, breakout: – is not measured: of MsPacman alone, not of Breakout" in " ".join(told.split())
    manifest = open_artefact(tmp_path / "out", "data_quality").manifest
    assert list(manifest.parents) == ["frames_0", "frames_1", "frames_2", "frames_3"]
    assert manifest.figures["frames_2_frozen_share"] is None
    assert manifest.figures["frames_2_length_mean_steps"] == 20
    assert manifest.figures["frames_2_terminated_share"] == 0
    html = (tmp_path / "out" / "data_quality.html").read_text(encoding="utf-8")
    assert "not measured: what the RAM of Pong means is not known" in html
    assert "not measured: of MsPacman alone, not of Breakout" in html
    assert json.loads((tmp_path / "out" / "figures.json").read_text())["composite"] == "last"


def test_the_same_again_is_the_same_and_a_single_path_will_do(folder: Path, tmp_path: Path, capsys) -> None:
    assert cli.main(["measure-data", f"--frames={folder / 'a'}", f"--out={tmp_path / 'again'}"]) == 0
    for name in ("figures.json", "manifest.json"):
        one, again = (json.loads((path / name).read_text()) for path in (folder / "one", tmp_path / "again"))
        assert again.get("figures") == one["figures"]
        assert again.get("identity") == one.get("identity")
    capsys.readouterr()
    assert cli.main(["measure-data", f"--frames={folder / 'a'}", f"--out={tmp_path / 'again'}"]) == 0
    assert "nothing is left to do" in capsys.readouterr().out


def test_a_dataset_that_mixes_policies_is_followed_by_their_parts(tmp_path: Path, capsys) -> None:
    draft = Draft.begin(PlainStageConfig(out=tmp_path / "mix"), "frames")
    env, generator = AtariEnv(AtariEnvConfig(max_frames=320)), np.random.default_rng(0)
    for policy, episodes in (("random", (0, 1)), ("planner", (2,))):
        with FrameWriter(tmp_path / "mix", env.info, policy, policy) as writer:
            for episode in episodes:
                write_episode(writer, env, episode, generator)
    draft.finish(frame_figures(tmp_path / "mix"))
    assert cli.main(["measure-data", str(tmp_path / "mix"), f"--out={tmp_path / 'out'}"]) == 0
    quality = Measured.load(tmp_path / "out").quality
    assert [(data.name, data.num_episodes, data.part) for data in quality.datasets] == [
        ("planner and random", 3, False),
        ("planner", 1, True),
        ("random", 2, True),
    ]
    dataset = FrameDataset.open(tmp_path / "mix")
    assert quality.datasets[1].estimates["return_mean"].value == dataset.episode_return(2)
    assert "planner and random" in capsys.readouterr().out


@pytest.fixture
def refused(folder: Path, tmp_path: Path, capfd):
    """Run measure-data so that it must be refused; returns what it says."""

    def run(*arguments: object) -> str:
        assert cli.main(["measure-data", *map(str, arguments), f"--out={tmp_path / 'out'}"]) == cli.EXIT_BAD_INPUT
        out, err = capfd.readouterr()
        assert out == ""
        assert len(err.splitlines()) <= 2, err
        assert not (tmp_path / "out").exists()
        return err

    return run


def test_a_dataset_given_twice(refused, folder: Path) -> None:
    twice = refused(folder / "a", folder / "b", folder / "a")
    assert f"--frames: {folder / 'a'} and {folder / 'a'} are the same dataset; give it once." in twice


def test_none_given(refused) -> None:
    assert "missing: --frames." in refused()
    assert "--frames: should name one frames artefact or more; got none" in refused("--frames=[]")


def test_what_is_no_frames_artefact(refused, folder: Path, tmp_path: Path) -> None:
    assert f"{folder / 'one'} holds a data_quality artefact; a frame dataset" in refused(folder / "a", folder / "one")
    assert f"{tmp_path / 'none'}: no such directory" in refused(tmp_path / "none")


def test_a_dataset_without_ram_gets_what_needs_none(tmp_path: Path, capsys) -> None:
    draft = Draft.begin(PlainStageConfig(out=tmp_path / "bare"), "frames")
    env = AtariEnv(AtariEnvConfig(max_frames=40))
    info = replace(env.info, unknown=("ram", "action", "executed_action", "reward", "lives"))
    with FrameWriter(tmp_path / "bare", info, "frames", "imported") as writer:
        step = env.reset(seed=0)
        writer.begin_episode(0)
        writer.append(NO_ACTION, step.frames, terminated=False, truncated=False)
        while not step.truncated:
            step = env.step(0)
            writer.append(0, step.frames, step.terminated, step.truncated)
        writer.end_episode()
    draft.finish(frame_figures(tmp_path / "bare"))
    assert cli.main(["measure-data", str(tmp_path / "bare"), f"--out={tmp_path / 'out'}"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for reason in ("no RAM", "no rewards", "no lives", "no actions"):
        assert f"imported: – is not measured: {reason}" in told
    quality = Measured.load(tmp_path / "out").quality
    assert quality.datasets[0].missing["frozen_share"] == "no RAM"
    assert quality.datasets[0].estimates["distinct_screens"].value > 0
