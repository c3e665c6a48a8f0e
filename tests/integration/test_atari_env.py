"""The environment against the emulator and against Gymnasium's own preprocessing, on real play."""

from __future__ import annotations

import ale_py
import gymnasium
import numpy as np
import pytest
from ale_py import ALEInterface, LoggerMode, roms
from gymnasium.wrappers import AtariPreprocessing

from lapa_ray.core.errors import LapaError
from lapa_ray.core.frames import NO_ACTION
from lapa_ray.core.pictures import grey_levels, to_rgb
from lapa_ray.envs.atari_env import AtariEnv, AtariEnvConfig

NUM_STEPS = 1500


@pytest.mark.parametrize("frame_skip", [4, 2])
def test_observations_equal_gymnasiums(frame_skip):
    gymnasium.register_envs(ale_py)
    theirs = AtariPreprocessing(
        gymnasium.make("ALE/MsPacman-v5", frameskip=1, repeat_action_probability=0.0), noop_max=0, frame_skip=frame_skip
    )
    ours = AtariEnv(AtariEnvConfig(sticky_probability=0, frame_skip=frame_skip))
    generator = np.random.default_rng(0)
    obs, _ = theirs.reset(seed=0)
    np.testing.assert_array_equal(ours.reset(0).obs, obs)
    num_episodes = 0
    for _ in range(NUM_STEPS):
        action = int(generator.integers(ours.num_actions))
        obs, reward, terminated, truncated, _ = theirs.step(action)
        step = ours.step(action)
        assert (step.reward, step.terminated, step.truncated) == (reward, terminated, truncated)
        if not step.is_last:  # Gymnasium pools the last frame of an episode with one of the step before
            np.testing.assert_array_equal(step.obs, obs)
            continue
        num_episodes += 1
        obs, _ = theirs.reset()
        np.testing.assert_array_equal(ours.reset(0).obs, obs)
    assert num_episodes >= 1
    theirs.close()


def test_palette_and_grey_equal_the_emulators():
    ALEInterface.setLoggerMode(LoggerMode.Error)
    ale = ALEInterface()
    ale.loadROM(roms.get_rom_path("ms_pacman"))
    info = AtariEnv(AtariEnvConfig()).info
    grey = grey_levels(info.palette)
    actions, generator = ale.getMinimalActionSet(), np.random.default_rng(1)
    for _ in range(600):
        ale.act(actions[generator.integers(len(actions))])
        screen = ale.getScreen()
        np.testing.assert_array_equal(to_rgb(screen, info.palette), ale.getScreenRGB())
        np.testing.assert_array_equal(grey[screen], ale.getScreenGrayscale())


def _episode(env: AtariEnv, seed: int, num_steps: int) -> list[bytes]:
    generator = np.random.default_rng(seed)
    env.reset(seed)
    told = []
    for _ in range(num_steps):
        step = env.step(int(generator.integers(env.num_actions)))
        told.append(step.frames.screens.tobytes() + step.frames.ram.tobytes() + step.frames.executed_actions.tobytes())
        if step.is_last:
            break
    return told


def test_an_episode_is_decided_by_its_seed_whatever_was_played_before():
    fresh, used = AtariEnv(AtariEnvConfig()), AtariEnv(AtariEnvConfig())
    _episode(used, 5, 2000)
    assert _episode(fresh, 3, 300) == _episode(used, 3, 300)
    assert _episode(used, 3, 300) != _episode(used, 4, 300)


def test_sticky_actions_repeat_what_ran_before_at_the_asked_rate():
    env = AtariEnv(AtariEnvConfig(sticky_probability=0.25))
    env.reset(0)
    before, repeats, count = 0, 0, 0
    for index in range(400):
        asked = 1 + index % 2
        executed = env.step(asked).frames.executed_actions.tolist()
        assert set(executed) <= {before, asked}
        if executed[0] != asked:
            repeats += 1
        count += 1
        before = executed[-1]
    assert 0.18 < repeats / count < 0.32


def test_frames_belong_to_the_receiver():
    env = AtariEnv(AtariEnvConfig())
    env.reset(0)
    first = env.step(1)
    kept = first.frames.screens.copy(), first.obs.copy()
    for _ in range(90):
        env.step(2)
    np.testing.assert_array_equal(first.frames.screens, kept[0])
    np.testing.assert_array_equal(first.obs, kept[1])


def test_an_episode_is_truncated_at_its_frame_cap():
    env = AtariEnv(AtariEnvConfig(max_frames=10))
    assert env.reset(0).frames.executed_actions.tolist() == [NO_ACTION]
    steps = [env.step(0) for _ in range(3)]
    assert [step.truncated for step in steps] == [False, False, True]
    assert [len(step.frames.rewards) for step in steps] == [4, 4, 2]


def test_an_unknown_game_is_refused_with_what_was_probably_meant():
    with pytest.raises(LapaError, match="did you mean MsPacman"):
        AtariEnv(AtariEnvConfig(game="MsPackman"))


def test_another_game_works():
    env = AtariEnv(AtariEnvConfig(game="Breakout"))
    env.reset(0)
    assert env.num_actions == 4
    assert env.step(1).obs.shape == (84, 84)
