"""The sides of the replay benchmark hold the same transitions, and give them."""

import json

import numpy as np
import pytest

from benchmarks import _replay_probe
from benchmarks._made_play import EPISODE_ROWS, EPISODE_STEPS, MadePlay
from benchmarks._replay_sides import (
    BATCH_SIZE,
    FRAME_STACK,
    GAMMA,
    N_STEP,
    Cpprb,
    Ours,
    Rllib,
    our_buffer,
    stacks_of,
)

ERRORS = np.ones(BATCH_SIZE, dtype=np.float32)


@pytest.fixture(scope="module")
def play():
    return MadePlay()


def test_the_rows_of_an_episode_are_those_of_its_stream(play):
    episode = play.episode(1)
    chunk = play.chunk(0, EPISODE_ROWS, EPISODE_ROWS)
    assert (chunk.starts.sum(), chunk.terminated.sum()) == (1, 1)
    assert chunk.starts[0]
    assert chunk.terminated[-1]
    assert len(episode.actions) == EPISODE_STEPS
    np.testing.assert_array_equal(episode.frames, chunk.frames)


def test_ours_gives_the_transitions_of_the_play(play):
    stacks, episode = stacks_of(play.episode(0).frames), play.episode(0)
    batch = Ours(play, 1).sample_and_update(ERRORS)
    for row, step in enumerate(batch.ids.tolist()):
        last = min(step + N_STEP, EPISODE_STEPS)
        np.testing.assert_array_equal(np.moveaxis(batch.obs_tm1[row], 0, -1), stacks[step])
        if batch.discounts[row]:
            np.testing.assert_array_equal(np.moveaxis(batch.obs_t[row], 0, -1), stacks[last])
        earned = sum(GAMMA**index * reward for index, reward in enumerate(episode.rewards[step:last]))
        assert batch.rewards[row] == pytest.approx(earned, abs=1e-5)


@pytest.mark.parametrize("compressed", [True, False])
def test_cpprb_gives_the_same_transitions_of_one_step(play, compressed):
    pytest.importorskip("cpprb")
    batch = Cpprb(play, 1, compressed=compressed).sample_and_update(ERRORS)
    stacks = stacks_of(play.episode(0).frames)
    for row, step in enumerate(batch["indexes"].astype(int)):
        np.testing.assert_array_equal(batch["obs"][row], stacks[step])
        np.testing.assert_array_equal(batch["next_obs"][row], stacks[step + 1])


def test_stacks_begin_with_the_first_frame(play):
    frames = play.episode(0).frames[:10]
    stacks = stacks_of(frames)
    np.testing.assert_array_equal(stacks[0], np.repeat(frames[:1], FRAME_STACK, axis=0).transpose(1, 2, 0))
    np.testing.assert_array_equal(stacks[9], frames[2:].transpose(1, 2, 0))


def test_the_probe_fills_every_slot_and_tells(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["probe", "--capacity", "300", "--rounds", "1"])
    assert _replay_probe.main() == 0
    told = json.loads(capsys.readouterr().out)
    assert told["num_transitions"] == 300
    assert told["sample_update_ms"][0] > 0
    assert told["copy_ms"][0] > 0
    assert told["resident_bytes"] > told["num_frames"] * 84 * 84


def test_a_filled_ring_has_no_slot_that_was_never_written():
    buffer = our_buffer(300)
    _replay_probe.fill(buffer)
    assert buffer.store.frames.oldest_id > 0
    assert len(buffer) == 300


@pytest.mark.filterwarnings("ignore")  # RLlib's imports warn of its own modules
def test_rllib_gives_the_same_transitions_of_three_steps(play):
    stacks, rewards = stacks_of(play.episode(0).frames), play.episode(0).rewards
    for transition in Rllib(play, 1).sample_and_update(ERRORS):
        step = transition.t_started
        before, after = transition.get_observations()
        np.testing.assert_array_equal(before, stacks[step])
        np.testing.assert_array_equal(after, stacks[step + N_STEP])
        earned = sum(GAMMA**index * reward for index, reward in enumerate(rewards[step : step + N_STEP]))
        assert transition.get_rewards(0) == pytest.approx(earned, abs=1e-5)
