"""The worker on the counter environment, whose frames tell which episode, step and action they came from."""

from functools import partial

import numpy as np
import pytest
import torch

from lapa_ray.actors.episode_blocks import EPISODES_PER_BLOCK, EpisodeBlocks
from lapa_ray.actors.exploration import Ladder
from lapa_ray.actors.faults import EnvironmentFault
from lapa_ray.actors.guarded_env import GuardedEnv
from lapa_ray.actors.learning_view import LearningSettings
from lapa_ray.actors.policy import EpsilonGreedy, to_weights
from lapa_ray.actors.rollout_worker import RolloutOptions, RolloutWorker
from lapa_ray.core.errors import LapaError
from lapa_ray.core.seeds import seed_for
from lapa_ray.dataset.shards import read_shards, shard_paths
from lapa_ray.models.q_network import QNetwork, QNetworkConfig
from tests.support.counter_env import NUM_ACTIONS, CounterEnv, read
from tests.support.lives_env import LivesEnv

NETWORK = QNetworkConfig(channels=(2, 2, 2), hidden=4, frame_stack=2)
LENGTH = 7
WEIGHTS = to_weights(QNetwork(NUM_ACTIONS, NETWORK))


def worker(sent: list, blocks=(0, 1), folder=None, options=None, env=CounterEnv, **env_fields) -> RolloutWorker:
    make_env, options = partial(env, LENGTH, **env_fields), options or RolloutOptions()
    return RolloutWorker(make_env, list(blocks), NETWORK, 3, sent.append, folder, options)


def rows_of(sent: list, stream: int) -> list[tuple]:
    chunks = [chunk for message in sent for chunk in message if chunk.stream == stream]
    columns = zip(*((c.frames, c.starts, c.actions, c.rewards, c.terminated) for c in chunks), strict=True)
    return list(zip(*(np.concatenate(column) for column in columns), strict=True))


@pytest.mark.parametrize("truncates", [False, True])
def test_every_frame_is_sent_once_in_order_with_how_it_was_reached(truncates):
    sent: list = []
    one = worker(sent, truncates=truncates)
    stats = [one.play(WEIGHTS, epsilon=1.0, num_steps=count) for count in (5, 16, 1)]
    assert [s.num_steps for s in stats] == [10, 32, 2]
    assert [chunk.num_steps for message in sent for chunk in message] == [5, 5, 16, 16, 1, 1]
    for stream in (0, 1):
        expected = [(episode, step) for episode in range(4) for step in range(LENGTH + 1)][: 22 + 4]
        for (frame, start, action, reward, terminated), (episode, step) in zip(
            rows_of(sent, stream), expected, strict=True
        ):
            episode_id = stream * EPISODES_PER_BLOCK + episode
            tag, frame_step, frame_action = read(frame)
            assert tag == seed_for(3, "episode", episode_id) % 65536
            assert (frame_step, bool(start)) == (step, step == 0)
            if not start:
                assert (frame_action, reward) == (action, step)
                assert terminated == (step == LENGTH and not truncates)


def test_episodes_are_told_with_return_and_length():
    stats = worker([]).play(WEIGHTS, epsilon=1.0, num_steps=2 * LENGTH)
    assert stats.episodes == [(LENGTH * (LENGTH + 1) / 2, LENGTH)] * 4


def test_gameplay_holds_what_was_sent(tmp_path):
    sent: list = []
    one = worker(sent, blocks=(4,), folder=tmp_path)
    one.play(WEIGHTS, epsilon=1.0, num_steps=LENGTH + 3)
    one.close()
    info, episodes = read_shards(shard_paths(tmp_path))
    assert info.game == "Counter"
    first = 4 * EPISODES_PER_BLOCK
    assert {key: rows.num_steps for key, rows in episodes.items()} == {first: LENGTH, first + 1: 3}
    sent_actions = [int(action) for _, start, action, *_ in rows_of(sent, 4) if not start]
    kept = np.concatenate([rows.columns["action"] for rows in episodes.values()])
    steps = np.concatenate([rows.columns["step"] for rows in episodes.values()])
    is_last_frame = np.diff(np.append(steps, -9)) != 0
    assert kept[is_last_frame & (steps >= 0)].tolist() == sent_actions


def test_what_is_learnt_is_sent_and_what_was_played_is_told_and_recorded(tmp_path):
    """Rewards 1 … 7, a life lost at steps 3 and 6."""
    learning = LearningSettings(clip_rewards=True, life_loss_terminal=True)
    options, sent = RolloutOptions(learning=learning), []
    one = worker(sent, (0,), tmp_path, options, env=LivesEnv)
    stats = one.play(WEIGHTS, epsilon=1.0, num_steps=LENGTH)
    one.close()
    assert stats.episodes == [(LENGTH * (LENGTH + 1) / 2, LENGTH)]
    _, starts, _, rewards, terminated = zip(*rows_of(sent, 0), strict=True)
    assert list(starts) == [True] + [False] * LENGTH + [True]  # the game went on after each loss
    assert list(rewards[1:-1]) == [1.0] * LENGTH
    assert [index for index, ended in enumerate(terminated) if ended] == [3, 6, LENGTH]
    _, episodes = read_shards(shard_paths(tmp_path))
    assert episodes[0].total_reward == LENGTH * (LENGTH + 1) / 2
    assert np.flatnonzero(episodes[0].columns["terminated"]).tolist() == [4 * LENGTH]


@pytest.mark.parametrize("obs_shape", [(84, 84), (96, 96), (60, 60, 3)])
@pytest.mark.parametrize("truncates", [False, True])
def test_values_beside_the_frames_are_those_of_the_network(truncates, obs_shape):
    """Against stacks built from the frames sent, one at a time."""
    network = QNetwork(NUM_ACTIONS, NETWORK, obs_shape).eval()
    sent: list = []
    options = RolloutOptions(with_values=True)
    one = worker(sent, options=options, env=LivesEnv, truncates=truncates, obs_shape=obs_shape)
    for num_steps in (3, LENGTH, 5):
        one.play(to_weights(network), 0.5, num_steps)
    for stream in (0, 1):
        chunks = [chunk for message in sent for chunk in message if chunk.stream == stream]
        max_q, chosen_q = (np.concatenate([getattr(c, name) for c in chunks]) for name in ("max_q", "chosen_q"))
        assert (max_q.dtype, chosen_q.dtype) == (np.float32, np.float32)
        rows = rows_of(sent, stream)
        values = values_of(network, rows)
        steps = [row for row, (_, start, *_) in enumerate(rows) if not start]
        assert not chosen_q[[row for row in range(len(rows)) if row not in steps]].any()
        expected = [values[row - 1, rows[row][2]] for row in steps]
        np.testing.assert_allclose(chosen_q[steps], expected, rtol=1e-4, atol=1e-6)
        # Nothing is learnt from what comes after a terminal; a truncated episode's last stack counts.
        counts = [row for row, (*_, terminated) in enumerate(rows) if not terminated]
        assert len(counts) == 15 + 3 - (0 if truncates else 2)
        np.testing.assert_allclose(max_q[counts], values[counts].max(axis=1), rtol=1e-4, atol=1e-6)


def values_of(network: QNetwork, rows: list[tuple]) -> np.ndarray:
    """Action values [n, num_actions] of the stacks of two that end in each row."""
    frames = np.stack([frame for frame, *_ in rows])
    starts = np.array([start for _, start, *_ in rows])
    before = np.where(starts, np.arange(len(rows)), np.arange(len(rows)) - 1)
    with torch.no_grad():
        return network(torch.tensor(np.stack([frames[before], frames], axis=1))).numpy()


def test_values_are_sent_only_where_they_are_asked_for():
    sent: list = []
    worker(sent).play(WEIGHTS, epsilon=0.5, num_steps=2)
    assert all(chunk.max_q is None and chunk.chosen_q is None for chunk in sent[0])


def test_values_do_not_change_what_is_played():
    plain, valued = [], []
    worker(plain).play(WEIGHTS, epsilon=0.5, num_steps=30)
    worker(valued, options=RolloutOptions(with_values=True)).play(WEIGHTS, epsilon=0.5, num_steps=30)
    for one, other in zip(plain[0], valued[0], strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)
        np.testing.assert_array_equal(one.frames, other.frames)


def test_each_environment_plays_on_the_rung_of_its_workers_place():
    """Four environments of two workers; the greedy action is 2, and ε 1, ½, ¼, ⅛ of 0.5 … by steepness 3."""
    network = QNetwork(NUM_ACTIONS, NETWORK)
    with torch.no_grad():
        network.head.bias[2] = 100.0
    options, shares = RolloutOptions(ladder=Ladder(4, steepness=3.0)), []
    for place in (0, 1):
        sent: list = []
        blocks = (2 * place + 10, 2 * place + 11)
        one = worker(sent, blocks, options=options)
        one.play(to_weights(network), 0.5, 1500, place)
        steps = [[int(row[2]) for row in rows_of(sent, stream) if not row[1]] for stream in blocks]
        shares += [np.mean(np.array(actions) != 2) / (4 / 5) for actions in steps]
    assert shares == pytest.approx([0.5, 0.25, 0.125, 0.0625], abs=0.04)


def test_a_folder_that_the_node_does_not_see_is_named(tmp_path):
    with pytest.raises(LapaError, match=r"nowhere: not to be seen from node .* storage that all nodes share"):
        worker([], folder=tmp_path / "nowhere")


def test_greedy_play_takes_the_best_action_and_follows_new_weights():
    network = QNetwork(NUM_ACTIONS, NETWORK)
    policy = EpsilonGreedy(QNetwork(NUM_ACTIONS, NETWORK), NUM_ACTIONS)
    generators = [np.random.default_rng(index) for index in range(3)]
    stacks = np.zeros((3, 2, 84, 84), dtype=np.uint8)
    for best in (3, 1):
        with torch.no_grad():
            network.head.bias.copy_(torch.nn.functional.one_hot(torch.tensor(best), NUM_ACTIONS) * 100.0)
        policy.load(to_weights(network))
        assert policy.act(stacks, 0.0, generators).tolist() == [best] * 3


def test_epsilon_is_the_share_of_random_actions_and_one_environment_does_not_shift_another():
    network = QNetwork(NUM_ACTIONS, NETWORK)
    with torch.no_grad():
        network.head.bias[2] = 100.0
    policy = EpsilonGreedy(network, NUM_ACTIONS)
    stack = np.zeros((1, 2, 84, 84), dtype=np.uint8)
    alone, generator = np.random.default_rng(5), np.random.default_rng(5)
    actions = [int(policy.act(stack, 0.5, [generator])[0]) for _ in range(2000)]
    assert np.mean(np.array(actions) != 2) == pytest.approx(0.5 * 4 / 5, abs=0.03)
    both = [policy.act(np.repeat(stack, 2, axis=0), 0.5, [np.random.default_rng(9), alone]) for _ in range(50)]
    assert [int(pair[1]) for pair in both] == actions[:50]


def test_what_could_not_be_delivered_is_not_joined_to_what_comes_after():
    sent: list = []

    def refuse(chunks):
        raise ConnectionError

    one = worker(sent)
    one.play(WEIGHTS, epsilon=1.0, num_steps=3)
    one.connect(refuse)
    with pytest.raises(ConnectionError):
        one.play(WEIGHTS, epsilon=1.0, num_steps=2)
    one.connect(sent.append)
    one.play(WEIGHTS, epsilon=1.0, num_steps=2)
    streams = [[chunk.stream for chunk in message] for message in sent]
    assert len({stream for message in streams for stream in message}) == 4, "a stream with a gap"
    assert [read(frame)[1] for frame in sent[1][0].frames] == [6, 7, 0]


@pytest.mark.parametrize("method", ["reset", "step"])
def test_what_an_environment_raises_is_named_but_for_what_is_the_users(method):
    class BrokenEnv(CounterEnv):
        def fail(self, argument):
            raise self.error

        reset = step = fail

    env = BrokenEnv()
    guarded = GuardedEnv(env)
    for env.error, told in ((KeyError("lives\nof Pac-Man"), r"^KeyError: 'lives"), (OSError(), "^OSError$")):
        with pytest.raises(EnvironmentFault, match=told):
            getattr(guarded, method)(0)
    env.error = LapaError("--env.game Pacwoman: unknown.")
    with pytest.raises(LapaError, match=r"^--env.game Pacwoman: unknown\.$"):
        getattr(guarded, method)(0)
    assert (guarded.num_actions, guarded.info) == (env.num_actions, env.info)


def test_blocks_are_never_given_twice(tmp_path):
    path = tmp_path / "blocks.json"
    taken = EpisodeBlocks(path).take(3)
    again = EpisodeBlocks(path)  # as after a kill: only the file is left
    assert taken + again.take(1) + again.take(2) == [0, 1, 2, 3, 4, 5]
    path.write_text("{")
    with pytest.raises(LapaError, match=r"blocks\.json: damaged"):
        EpisodeBlocks(path)
