"""Datasets side by side: what they are called, what is missing and why, and the part of each policy in a mixed one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lapa_ray.core.artefact import Artefact, Draft, open_artefact
from lapa_ray.core.config import PlainStageConfig
from lapa_ray.core.errors import LapaError
from lapa_ray.evaluation.data_quality import FIGURES, PICTURES, DataQuality, Measured, save_exhibits
from lapa_ray.evaluation.data_quality_datasets import entity_map_of, policy_words
from lapa_ray.evaluation.data_quality_tally import EpisodeTally
from tests.support.measured_data import measured_data, tallied
from tests.unit.evaluation.test_data_quality_measures import FLOOR, tally


def episodes(policy: str, number: int = 3, first: int = 0) -> list[EpisodeTally]:
    return [tally(first + i, [*FLOOR[: 5 + i], FLOOR[4 + i]], policy=policy, score=10 * i) for i in range(number)]


def names(quality: DataQuality) -> list[str]:
    return [dataset.name for dataset in quality.datasets]


def test_datasets_are_called_by_policy_and_by_directory_where_that_is_not_enough() -> None:
    data = [
        tallied("frames_0", "a/one", episodes("random")),
        tallied("frames_1", "a/two", episodes("random")),
        tallied("frames_2", "b/two", episodes("random")),
        tallied("frames_3", "c", episodes("planner")),
    ]
    assert names(measured_data(*data).quality) == ["random, one", "random, a/two", "random, b/two", "planner"]


def test_a_mixed_dataset_is_followed_by_the_part_of_each_policy() -> None:
    mixed = tallied("frames", "runs/mix", [*episodes("random"), *episodes("planner", 2, first=3)])
    measured = measured_data(mixed)
    assert names(measured.quality) == ["planner and random", "planner", "random"]
    assert [dataset.num_episodes for dataset in measured.quality.datasets] == [5, 2, 3]
    assert [dataset.part for dataset in measured.quality.datasets] == [False, True, True]
    assert measured.quality.datasets[0].estimates["return_mean"].value == pytest.approx((0 + 10 + 20 + 0 + 10) / 5)
    assert measured.quality.datasets[1].estimates["return_mean"].value == pytest.approx(5)
    assert [len(exhibit.returns) for exhibit in measured.exhibits] == [5, 2, 3]
    flat = measured.quality.manifest_figures()
    assert (flat["num_datasets"], flat["frames_policy"]) == (1, "planner and random")
    assert flat["frames_return_mean"] == pytest.approx(8)


def test_why_figures_are_missing() -> None:
    without_ram = [replace(episode, has_ram=False, play=None) for episode in episodes("imported")]
    partly = [*episodes("random", 2), *without_ram[2:]]
    unread = [replace(episode, play=None, total_reward=None) for episode in episodes("random")]
    measured = measured_data(
        tallied("frames_0", "a", without_ram),
        tallied("frames_1", "b", partly),
        tallied("frames_2", "c", unread, game="Breakout"),
        tallied("frames_3", "d", unread, game="Pong"),
    )
    imported, mixed, *_, breakout, pong = measured.quality.datasets
    assert imported.missing["frozen_share"] == "no RAM"
    assert mixed.missing["frozen_share"] == "no RAM in 1 of 3 episodes"
    assert breakout.missing["frozen_share"] == "of MsPacman alone, not of Breakout"
    assert pong.missing["frozen_share"] == "what the RAM of Pong means is not known"
    assert breakout.missing["return_mean"] == "no rewards"
    assert breakout.missing["distinct_screens_drawn"] == "there are 21 screens, fewer than 1,000"
    for dataset in measured.quality.datasets:
        assert set(dataset.missing) | set(dataset.estimates) == {figure.name for figure in measured.quality.figures}
        assert not set(dataset.missing) & set(dataset.estimates)
    assert measured.exhibits[0].player_cells.shape == (0, 252)


def test_only_known_games_have_a_map() -> None:
    assert entity_map_of("MsPacman") is not None
    assert entity_map_of("Breakout") is not None
    assert entity_map_of("Pong") is None


def agent_and_frames(folder: Path, *, use_per: bool) -> tuple[Artefact, Artefact]:
    class AgentConfig(PlainStageConfig):
        use_per: bool = False
        """Kind of replay."""

    agent = Draft.begin(AgentConfig(out=folder / "agent", use_per=use_per), "agent").finish({})
    frames = Draft.begin(PlainStageConfig(out=folder / "frames"), "frames", {"agent": agent}).finish({})
    return agent, frames


@pytest.mark.parametrize(("use_per", "words"), [(True, "agent PER"), (False, "agent uniform")])
def test_an_agent_is_told_by_its_replay(tmp_path: Path, use_per: bool, words: str) -> None:
    agent, frames = agent_and_frames(tmp_path, use_per=use_per)
    assert policy_words(frames, f"agent {agent.identity}") == words
    assert policy_words(agent, "training") == words.replace("agent", "training,")


def test_an_agent_is_looked_for_beside_its_frames(tmp_path: Path) -> None:
    agent_and_frames(tmp_path / "old", use_per=True)
    (tmp_path / "old").rename(tmp_path / "new")
    moved = open_artefact(tmp_path / "new" / "frames")
    assert policy_words(moved, "agent 0123") == "agent PER"
    (tmp_path / "new" / "agent" / "manifest.json").unlink()
    assert policy_words(moved, "agent 0123") == "agent"


def test_another_agent_in_its_place_is_not_taken_for_it(tmp_path: Path) -> None:
    _, frames = agent_and_frames(tmp_path, use_per=True)
    path = tmp_path / "agent" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"identity": "another"}))
    assert policy_words(frames, "agent 0123") == "agent"


def test_the_curve_of_dots_holds_what_ended_episodes_ate() -> None:
    measured = measured_data(tallied("frames", "a", [tally(0, FLOOR[:3]), tally(1, FLOOR[:9])]))
    exhibit = measured.exhibits[0]
    assert exhibit.dots_steps.tolist() == list(range(9))
    assert exhibit.dots.shape == (9, 3)
    assert np.isnan(exhibit.dots[:, 1:]).all()


def saved(folder: Path) -> Measured:
    measured = measured_data(tallied("frames", "a", episodes("random")))
    folder.mkdir()
    (folder / FIGURES).write_text(measured.quality.model_dump_json())
    save_exhibits(folder / PICTURES, measured.exhibits)
    return measured


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    measured, loaded = saved(tmp_path / "a"), Measured.load(tmp_path / "a")
    assert loaded.quality == measured.quality
    for name, array in vars(measured.exhibits[0]).items():
        np.testing.assert_array_equal(getattr(loaded.exhibits[0], name), array)


@pytest.mark.parametrize("name", [FIGURES, PICTURES])
@pytest.mark.parametrize("content", [b"{", b"", b"PK\x03\x04"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    saved(tmp_path / "a")
    (tmp_path / "a" / name).write_bytes(content)
    with pytest.raises(LapaError, match=rf"{name}: damaged .*; run measure-data again"):
        Measured.load(tmp_path / "a")
