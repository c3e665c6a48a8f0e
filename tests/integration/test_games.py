"""Games of all sorts through a rollout worker that records: nothing assumes Ms. Pac-Man's actions, lines or colours."""

from functools import partial

import numpy as np
import pytest

from lapa_ray.actors.learning_view import LearningSettings
from lapa_ray.actors.policy import to_weights
from lapa_ray.actors.rollout_worker import RolloutOptions, RolloutWorker
from lapa_ray.dataset.shards import read_shards, shard_paths
from lapa_ray.envs.atari_env import AtariEnv, AtariEnvConfig
from lapa_ray.envs.shaping import ShapingConfig
from lapa_ray.models.q_network import QNetwork, QNetworkConfig

NETWORK = QNetworkConfig(channels=(2, 2, 2), hidden=4, frame_stack=2)
NUM_STEPS = 60


@pytest.mark.parametrize(
    ("game", "num_actions", "height", "fields"),
    [
        ("Breakout", 4, 210, {}),
        ("Pong", 6, 210, {"obs_channels": 3, "obs_size": 60}),
        ("Pooyan", 6, 220, {"frame_skip": 3}),
        ("AirRaid", 6, 250, {}),
        ("KeystoneKapers", 14, 250, {"obs_size": 100}),  # European: another palette
    ],
)
def test_a_game_is_played_learnt_from_and_recorded(game, num_actions, height, fields, tmp_path):
    config, sent = AtariEnvConfig(game=game, **fields), []
    learning = LearningSettings(True, True, 0.99, ShapingConfig(life_loss=1.0))
    options = RolloutOptions(with_values=True, learning=learning)
    worker = RolloutWorker(partial(AtariEnv, config), [0, 1], NETWORK, 0, sent.append, tmp_path, options)
    weights = to_weights(QNetwork(num_actions, NETWORK, config.obs_shape))
    stats = worker.play(weights, 0.9, NUM_STEPS)
    worker.close()
    assert stats.num_steps == 2 * NUM_STEPS
    for chunk in sent[0]:
        assert chunk.frames.shape[1:] == config.obs_shape
        assert chunk.actions.max() == num_actions - 1
        assert np.isfinite(chunk.max_q).all()
    _check_recorded(config, height, tmp_path)


def _check_recorded(config: AtariEnvConfig, height: int, folder) -> None:
    """What lies in the shards, played again frame by frame."""
    info, episodes = read_shards(shard_paths(folder))
    assert (info.game, info.height, info.width, info.frame_skip) == (config.game, height, 160, config.frame_skip)
    first = episodes[0]
    executed, screens = first.columns["executed_action"], np.concatenate(list(first.screens()))
    assert first.num_frames > config.frame_skip * 20
    again = AtariEnv(AtariEnvConfig(game=config.game, frame_skip=1, sticky_probability=0))
    assert again.info.action_meanings == info.action_meanings
    np.testing.assert_array_equal(again.info.palette, info.palette)
    again.reset(0)
    for frame in range(1, first.num_frames):
        step = again.step(int(executed[frame]))
        np.testing.assert_array_equal(step.frames.screens[0].ravel(), screens[frame])
        np.testing.assert_array_equal(step.frames.ram[0], first.ram()[frame])
