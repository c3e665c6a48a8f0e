"""`record` with the planner: alone and beside random play, on real Ray and the real emulator."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lapa_ray.core.errors import LapaError, StoppedError
from lapa_ray.core.seeds import seed_for
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.schema import read_metadata
from lapa_ray.dataset.shards import shard_paths
from lapa_ray.envs.atari_env import AtariEnv, AtariEnvConfig
from lapa_ray.stages import record

pytestmark = pytest.mark.shared_ray


def mixed(out: Path, **changes) -> record.RecordConfig:
    fields = {
        "out": out,
        "agent": "random",
        "num_episodes": 5,
        "planner_episodes": 2,
        "planner_max_steps": 110,
        "max_steps": 20,
        "planner": {"budget_steps": 2, "horizon_steps": 10},
    }
    return record.RecordConfig.model_validate(fields | changes)


@pytest.fixture(scope="module")
def mix(tmp_path_factory) -> FrameDataset:
    out = tmp_path_factory.mktemp("mix") / "frames"
    record.run(mixed(out))
    return FrameDataset.open(out)


def columns(dataset: FrameDataset, episode_id: int) -> list[np.ndarray]:
    steps = dataset.steps(episode_id)
    return [dataset.composites(episode_id), steps.actions, steps.executed_actions, steps.rewards, steps.ram]


def assert_same(one: FrameDataset, other: FrameDataset) -> None:
    assert one.episode_ids == other.episode_ids
    for episode_id in one.episode_ids:
        assert one.policy(episode_id) == other.policy(episode_id)
        for mine, theirs in zip(columns(one, episode_id), columns(other, episode_id), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_each_shard_has_one_policy_and_says_which(mix):
    told = {}
    for shard in shard_paths(mix.artefact.path):
        policy = read_metadata(pq.read_schema(shard), shard.name).policy
        assert ("planner" in shard.name) == (policy == "planner")
        told |= dict.fromkeys(pq.read_table(shard)["episode_id"].unique().to_pylist(), policy)
    assert told == {0: "random", 1: "random", 2: "planner", 3: "random", 4: "planner"}
    assert {episode: mix.policy(episode) for episode in mix.episode_ids} == told


def test_the_manifest_tells_who_played_how_many(mix):
    manifest = mix.artefact.manifest
    assert manifest.parents == {}
    figures = manifest.figures
    assert figures["policy"] == "planner + random"
    assert (figures["planner_episodes"], figures["random_episodes"]) == (2, 3)
    assert figures["planner_median_return"] > figures["random_median_return"] == 0


def test_as_many_players_as_cores_play(mix):
    """Two cores, so two players, both of which had one of the planner's episodes; which played the others is chance."""
    names = {shard.name.partition("-planner")[0] for shard in shard_paths(mix.artefact.path) if "planner" in shard.name}
    assert names <= {"player-000", "player-001"}
    assert max(shard.name for shard in shard_paths(mix.artefact.path)) >= "player-001"


def test_each_is_cut_where_asked(mix):
    assert {episode: mix.num_steps(episode) for episode in mix.episode_ids} == {0: 20, 1: 20, 2: 110, 3: 20, 4: 110}


def test_the_planners_episode_is_the_one_of_its_seed_and_actions(mix):
    env, steps = AtariEnv(AtariEnvConfig()), mix.steps(4)
    env.reset(seed_for(0, "episode", 4))
    for number, action in enumerate(steps.actions.tolist()):
        step = env.step(action)
        np.testing.assert_array_equal(step.frames.ram[-1], steps.ram[number + 1])
        assert step.reward == steps.rewards[number]


def test_what_is_recorded_does_not_depend_on_workers_or_stops(mix, tmp_path, monkeypatch):
    """The stop comes while the planner plays: what is under way then is left, and played again on --resume."""
    plain, sent = record.Progress.advance, []

    def advance(progress, *arguments, **options):
        plain(progress, *arguments, **options)
        if not sent and len(shard_paths(tmp_path / "stopped")) >= 1:
            sent.append(os.kill(os.getpid(), signal.SIGINT))

    monkeypatch.setattr(record.Progress, "advance", advance)
    stopped = mixed(tmp_path / "stopped", resources={"num_workers": 1})
    with pytest.raises(StoppedError, match=r"stopped with [34] of 5 episodes recorded; .* --resume"):
        record.run(stopped)
    assert not list((tmp_path / "stopped").glob(".tmp-*"))
    record.run(mixed(tmp_path / "stopped", resume=True))
    assert_same(mix, FrameDataset.open(tmp_path / "stopped"))


def test_the_planner_alone(tmp_path):
    artefact = record.run(mixed(tmp_path / "frames", agent="planner", num_episodes=1, planner_episodes=0))
    assert artefact.manifest.figures["policy"] == "planner"
    assert artefact.manifest.figures["planner_episodes"] == artefact.manifest.figures["num_episodes"] == 1


@pytest.mark.parametrize("changes", [{"agent": "planner"}, {}])
def test_a_game_that_it_does_not_know_is_refused(tmp_path, changes):
    with pytest.raises(LapaError, match=r"^--env.game Breakout: the planner plays MsPacman alone"):
        record.run(mixed(tmp_path / "frames", env={"game": "Breakout"}, **changes))
    assert not (tmp_path / "frames").exists()


def test_more_planned_episodes_than_episodes_are_refused(tmp_path):
    with pytest.raises(LapaError, match=r"^--planner_episodes 6: more than the 5 of --num_episodes"):
        record.run(mixed(tmp_path / "frames", planner_episodes=6))


@pytest.mark.parametrize(("count", "planned"), [(0, []), (1, [9]), (3, [3, 6, 9]), (5, [1, 3, 5, 7, 9])])
def test_planned_episodes_are_spread_evenly(tmp_path, count, planned):
    config = mixed(tmp_path, num_episodes=10, planner_episodes=count)
    assert [episode for episode in range(10) if config.is_planned(episode)] == planned
    assert all(mixed(tmp_path, num_episodes=10, planner_episodes=10).is_planned(episode) for episode in range(10))
