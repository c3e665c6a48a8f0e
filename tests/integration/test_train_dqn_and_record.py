"""The stages train-dqn and record on real ALE and real Ray: stopped, resumed, and the same whoever plays."""

from __future__ import annotations

import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from lapa_ray import cli
from lapa_ray.core.artefact import open_artefact
from lapa_ray.core.errors import LapaError, StoppedError
from lapa_ray.core.metric_log import read_metrics
from lapa_ray.dataset.shards import read_shards, shard_paths
from lapa_ray.models.checkpoint import save_checkpoint
from lapa_ray.models.q_network import load_agent
from lapa_ray.stages import record, train_dqn
from tests.support.interrupts import interrupt_when
from tests.support.probe import MortalAtariEnv

pytestmark = pytest.mark.shared_ray

LOGGED = {
    "return", "episode_length", "epsilon", "loss", "beta", "mean_q", "variance_q", "max_q", "td_error",
    "gradient_norm", "steps_per_s", "updates_per_s", "num_updates", "num_episodes",
}  # fmt: skip
ENV = {"max_frames": 240}


def train_config(out: Path, **changes) -> train_dqn.TrainDqnConfig:
    fields = {
        "out": out,
        "num_steps": 900,
        "use_per": True,
        "env": ENV,
        "network": {"channels": [4, 4, 4], "hidden": 16, "frame_stack": 4},
        "replay": {"capacity": 500, "min_size": 100},
        "learner": {"batch_size": 16},
        "workers": {"num_workers": 1, "envs_per_worker": 2, "rollout_steps": 10},
        "resources": {"device": "cpu"},
        "log_period_s": 0.2,
        "checkpoint_period_updates": 60,
    }
    return train_dqn.TrainDqnConfig.model_validate(fields | changes)


def record_config(out: Path, agent: Path | str, num_workers: int, **changes) -> record.RecordConfig:
    fields = {
        "out": out,
        "agent": agent,
        "num_episodes": 4,
        "epsilon": 0.3,
        "env": ENV,
        "resources": {"num_workers": num_workers},
    }
    return record.RecordConfig.model_validate(fields | changes)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """The folder of a training run that a Ctrl-C ended half-way."""
    out = tmp_path_factory.mktemp("stopped") / "agent"
    with pytest.MonkeyPatch.context() as monkeypatch:
        interrupt_when(monkeypatch, "advance_to", lambda done, note: done >= 400)
        with pytest.raises(StoppedError, match=r"stopped at step \d+ of 900, checkpoint saved; .* --resume"):
            train_dqn.run(train_config(out))
    return out


@pytest.fixture(scope="module")
def agent(stopped, tmp_path_factory) -> Path:
    """The same run, resumed to its end in another folder."""
    out = tmp_path_factory.mktemp("resumed") / "agent"
    shutil.copytree(stopped, out)
    train_dqn.run(train_config(out, resume=True))
    return out


def test_a_stop_leaves_a_checkpoint_with_the_replay_buffer(stopped):
    names = {path.name.partition(".")[2] or path.name for path in (stopped / "checkpoints").iterdir()}
    assert {"json", "npz", "frames.npy", "pth"} == names
    assert not (stopped / "manifest.json").exists()


def test_a_resumed_run_ends_with_just_the_updates_that_its_steps_earn(agent):
    figures = open_artefact(agent, "agent").manifest.figures
    assert 900 <= figures["num_steps"] <= 902
    assert figures["num_updates"] == train_config(agent).num_updates == 400
    assert figures["num_skipped_steps"] == 0
    assert not list((agent / "checkpoints").glob("*.np*"))
    assert 1 <= len(list((agent / "checkpoints").glob("*_PER.pth"))) <= 2


def test_the_log_goes_on_and_holds_every_value(agent):
    rows = read_metrics(agent / "metrics.jsonl")
    steps = [row["step"] for row in rows]
    assert steps == sorted(steps)
    assert {name for row in rows for name in row} >= LOGGED
    assert rows[-1]["beta"] == 1.0
    assert rows[-1]["num_updates"] == 400


def test_the_gameplay_holds_every_step_under_ids_of_its_own(agent):
    gameplay = open_artefact(agent / "gameplay", "frames")
    assert gameplay.manifest.figures["num_steps"] == open_artefact(agent, "agent").manifest.figures["num_steps"]
    seen: set[int] = set()
    for shard in shard_paths(agent / "gameplay"):
        episodes = set(read_shards([shard])[1])
        assert not seen & episodes
        seen |= episodes


def test_the_final_weights_load_as_a_network(agent):
    network = load_agent(open_artefact(agent, "agent"))
    assert (agent / "agent_PER.pth").exists()
    assert network.head.out_features == 9


def test_a_run_whose_replay_buffer_is_lost_fills_it_anew_with_steps_on_top(stopped, tmp_path):
    out = tmp_path / "agent"
    shutil.copytree(stopped, out)
    for path in (out / "checkpoints").glob("*.np*"):
        path.unlink()
    figures = train_dqn.run(train_config(out, resume=True)).manifest.figures
    assert 1000 <= figures["num_steps"] <= 1000 + 2 * 10
    assert figures["num_updates"] == 400


def rows_by_episode(folder: Path) -> dict[int, dict[str, np.ndarray]]:
    """All columns of each episode, pictures included."""
    import pyarrow.parquet as pq

    episodes: dict[int, dict[str, np.ndarray]] = {}
    for shard in shard_paths(folder):
        table = pq.read_table(shard).to_pydict()
        ids = np.array(table["episode_id"])
        for episode in np.unique(ids):
            columns = {name: np.array(values, dtype=object)[ids == episode] for name, values in table.items()}
            assert episodes.setdefault(int(episode), columns) is columns, "an episode recorded twice"
    return episodes


def assert_same_episodes(one: Path, other: Path) -> None:
    first, second = rows_by_episode(one), rows_by_episode(other)
    assert sorted(first) == sorted(second) == [0, 1, 2, 3]
    for episode, columns in first.items():
        for name, values in columns.items():
            assert np.array_equal(values, second[episode][name]), f"{name} of episode {episode}"


@pytest.fixture(scope="module")
def alone(agent, tmp_path_factory) -> Path:
    """Four episodes recorded by one player."""
    out = tmp_path_factory.mktemp("alone") / "frames"
    record.run(record_config(out, agent, num_workers=1))
    return out


def test_a_recording_names_its_agent(agent, alone):
    manifest, identity = open_artefact(alone, "frames").manifest, open_artefact(agent).identity
    assert manifest.figures["num_episodes"] == 4
    assert manifest.parents["agent"].identity == identity
    assert manifest.figures["policy"] == f"agent {identity}"


def test_what_is_recorded_does_not_depend_on_workers_or_stops(agent, alone, tmp_path, monkeypatch):
    record.run(record_config(tmp_path / "together", agent, num_workers=2))
    assert_same_episodes(alone, tmp_path / "together")
    interrupt_when(monkeypatch, "advance", lambda *_: True)
    with pytest.raises(StoppedError, match=r"stopped with [12] of 4 episodes recorded; .* --resume"):
        record.run(record_config(tmp_path / "stopped", agent, num_workers=1))
    assert set(rows_by_episode(tmp_path / "stopped")) < {0, 1, 2, 3}
    record.run(record_config(tmp_path / "stopped", agent, num_workers=2, resume=True))
    assert_same_episodes(alone, tmp_path / "stopped")


def test_a_killed_player_is_replaced_and_its_episodes_are_played_again(agent, alone, tmp_path, monkeypatch, capfd):
    mortal = partial(MortalAtariEnv, at=130, grave=tmp_path / "grave")  # in its third episode of 60 steps
    monkeypatch.setattr(record, "AtariEnv", mortal)
    record.run(record_config(tmp_path / "killed", agent, num_workers=1))
    assert "A player died" in capfd.readouterr().err
    assert_same_episodes(alone, tmp_path / "killed")


def test_random_play_has_no_parent_and_is_cut_where_asked(tmp_path):
    artefact = record.run(record_config(tmp_path / "random", "random", num_workers=2, max_steps=12))
    assert artefact.manifest.parents == {}
    assert artefact.manifest.figures["policy"] == "random"
    _, episodes = read_shards(shard_paths(tmp_path / "random"))
    assert {rows.num_steps for rows in episodes.values()} == {12}
    assert all(rows.columns["truncated"][-1] for rows in episodes.values())


def test_every_switch_of_play_at_once(tmp_path):
    """Small colour observations, the ladder, values beside frames, and what is learnt apart from what is played."""
    seen = {**ENV, "obs_size": 52, "obs_channels": 3}
    config = train_config(
        tmp_path / "agent",
        num_steps=300,
        env=seen,
        exploration={"ladder": True},
        replay={"capacity": 500, "min_size": 100, "actor_priorities": True},
        learner={"batch_size": 16, "clip_rewards": True, "life_loss_terminal": True},
        shaping={"life_loss": 1.0, "dot_distance": 0.01},
    )
    figures = train_dqn.run(config).manifest.figures
    assert (figures["num_updates"], figures["num_skipped_steps"]) == (100, 0)
    _, episodes = read_shards(shard_paths(tmp_path / "agent" / "gameplay"))
    assert all(np.all(rows.columns["reward"] % 10 == 0) for rows in episodes.values())  # raw scores
    recorded = record.run(record_config(tmp_path / "frames", tmp_path / "agent", 1, num_episodes=1, env=seen))
    assert recorded.manifest.figures["num_steps"] == 60


def test_an_agent_of_another_shape_or_game_is_named(agent, tmp_path):
    with pytest.raises(LapaError, match=r"trained on MsPacman \(9 actions\), but --env.game is Breakout"):
        record.run(record_config(tmp_path / "frames", agent, 1, env={"game": "Breakout"}))
    other = tmp_path / "other"
    shutil.copytree(agent, other, ignore=shutil.ignore_patterns("gameplay", "checkpoints"))
    weights = {name: value[:1] for name, value in load_agent(open_artefact(agent)).state_dict().items()}
    save_checkpoint(other / "agent_PER.pth", weights)
    with pytest.raises(LapaError, match=r"agent_PER\.pth: weights of another network shape"):
        record.run(record_config(tmp_path / "frames", other, 1))
    assert not (tmp_path / "frames").exists()


@pytest.mark.parametrize("capacity", [10**14, 10**18])
def test_a_replay_buffer_beyond_all_memory_is_refused_in_a_line_and_leaves_nothing(tmp_path, capfd, capacity):
    command = [
        *("train-dqn", f"--out={tmp_path / 'agent'}", "--config=tune_configs/micro/train_dqn.yaml"),
        *(f"--replay.capacity={capacity}", "--wandb.mode=disabled"),
    ]
    assert cli.main(command) == 2
    said = capfd.readouterr().err
    assert re.fullmatch(
        rf"lapa-ray train-dqn: --replay\.capacity {capacity}: [\d,]+ GB of frames, more than this node has memory for; "
        r"lower it\.\n",
        said,
    )
    assert list(tmp_path.iterdir()) == []
