"""The environment against the emulator and against Gymnasium's own preprocessing, on real play."""

from __future__ import annotations

import subprocess
import sys

import ale_py
import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import AtariPreprocessing

from lapa_ray.core.errors import LapaError
from lapa_ray.core.frames import NO_ACTION
from lapa_ray.core.pictures import grey_levels, to_rgb
from lapa_ray.envs.atari_env import AtariEnv, AtariEnvConfig
from lapa_ray.envs.emulator import load_emulator, rom_ids


@pytest.mark.parametrize(
    ("num_steps", "episodes", "keep_frames", "fields"),
    [
        (1500, 2, True, {}),
        (1000, 1, False, {}),
        (1500, 1, True, {"frame_skip": 2}),
        (200, 0, False, {"frame_skip": 1}),
        (400, 0, False, {"obs_size": 96}),
        (400, 0, True, {"obs_channels": 3}),
        (400, 0, False, {"obs_size": 128, "obs_channels": 3}),
        (300, 0, True, {"game": "KeystoneKapers"}),  # of 250 lines, and European
    ],
)
def test_observations_equal_gymnasiums(num_steps, episodes, keep_frames, fields):
    config = AtariEnvConfig(sticky_probability=0, **fields)
    gymnasium.register_envs(ale_py)
    theirs = AtariPreprocessing(
        gymnasium.make(f"ALE/{config.game}-v5", frameskip=1, repeat_action_probability=0.0),
        noop_max=0,
        frame_skip=config.frame_skip,
        screen_size=config.obs_size,
        grayscale_obs=config.obs_channels == 1,
    )
    ours = AtariEnv(config, keep_frames=keep_frames)
    assert ours.reset(0).obs.shape == config.obs_shape
    generator = np.random.default_rng(0)
    obs, _ = theirs.reset(seed=0)
    np.testing.assert_array_equal(ours.reset(0).obs, obs)
    num_episodes = 0
    for _ in range(num_steps):
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
    assert num_episodes >= episodes
    theirs.close()


@pytest.mark.parametrize("game", ["MsPacman", "Enduro", "KeystoneKapers", "SirLancelot"])
def test_palette_and_grey_equal_the_emulators(game):
    """The last two are European games, and SirLancelot begins with a black screen, which tells no palette."""
    info = AtariEnv(AtariEnvConfig(game=game)).info
    ale = load_emulator(game)
    grey = grey_levels(info.palette)
    actions, generator = ale.getMinimalActionSet(), np.random.default_rng(1)
    seen = set()
    for index in range(600):
        ale.act(actions[generator.integers(len(actions))])
        if index % 10 == 0:
            screen = ale.getScreen()
            seen |= set(np.unique(screen).tolist())
            np.testing.assert_array_equal(to_rgb(screen, info.palette), ale.getScreenRGB())
            np.testing.assert_array_equal(grey[screen], ale.getScreenGrayscale())
    assert len(seen) >= 8


def test_without_frames_everything_but_the_frames_is_the_same():
    """Up to an end in the middle of a step; its last frame is told either way."""
    config = AtariEnvConfig(max_frames=4 * 400 + 1)
    whole, brief = AtariEnv(config), AtariEnv(config, keep_frames=False)
    generator, steps = np.random.default_rng(3), [(whole.reset(5), brief.reset(5))]
    while not steps[-1][0].is_last:
        action = int(generator.integers(whole.num_actions))
        steps.append((whole.step(action), brief.step(action)))
    assert len(steps) == 402
    for one, other in steps:
        np.testing.assert_array_equal(one.obs, other.obs)
        assert (one.reward, one.terminated, one.truncated) == (other.reward, other.terminated, other.truncated)
        np.testing.assert_array_equal(one.frames.screens[-1:], other.frames.screens)
        np.testing.assert_array_equal(one.frames.ram[-1:], other.frames.ram)
        assert one.frames.executed_actions[-1] == other.frames.executed_actions
        assert one.frames.lives[-1] == other.frames.lives
        assert one.frames.rewards.sum() == other.frames.rewards == one.reward
    assert sum(one.reward for one, _ in steps) > 0


def test_sticky_draws_are_those_of_the_seed_four_a_step():
    """Recordings made before can be made again: drawing for many steps at once is the same stream."""
    env, generator = AtariEnv(AtariEnvConfig()), np.random.default_rng(11)
    env.reset(11)
    before = 0
    for index in range(300):
        action = index % 8 + 1
        expected = []
        for repeats in generator.random(4) < 0.25:
            before = before if repeats else action
            expected.append(before)
        assert env.step(action).frames.executed_actions.tolist() == expected


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


@pytest.mark.parametrize("game", ["MsPacman", "Kaboom", "Qbert"])
def test_an_episode_is_decided_by_its_seed_whatever_was_played_before(game):
    """Kaboom draws lots from the noise that is in memory at power-up; Qbert draws on the picture that was there."""
    fresh, used = AtariEnv(AtariEnvConfig(game=game)), AtariEnv(AtariEnvConfig(game=game))
    _episode(used, 5, 1500 if game == "MsPacman" else 300)
    told = _episode(fresh, 3, 150)
    assert told == _episode(used, 3, 150) == _episode(fresh, 3, 150)
    assert told != _episode(used, 4, 150)


def test_it_can_begin_again_in_the_middle_and_after_the_end():
    env = AtariEnv(AtariEnvConfig(max_frames=6))
    with pytest.raises(ValueError, match="reset first"):
        env.step(0)
    first = env.reset(0)
    assert [env.step(0).is_last, env.step(0).is_last] == [False, True]
    with pytest.raises(ValueError, match="reset first"):
        env.step(0)
    again = env.reset(0)
    np.testing.assert_array_equal(first.obs, again.obs)
    np.testing.assert_array_equal(first.frames.ram, again.frames.ram)
    np.testing.assert_array_equal(first.frames.screens, again.frames.screens)
    assert not env.step(0).is_last


def test_sticky_actions_repeat_what_ran_before_at_the_asked_rate():
    env = AtariEnv(AtariEnvConfig(sticky_probability=0.25))
    env.reset(0)
    executed, asked = [], []
    for index in range(400):
        frames = env.step(index % 2 + 1).frames
        asked += [index % 2 + 1] * 4
        executed += frames.executed_actions.tolist()
    # From the definition: each frame runs what was asked, or, by chance, what ran before it.
    assert all(ran in (wish, before) for ran, wish, before in zip(executed, asked, [0, *executed], strict=False))
    changes = [
        ran == wish for ran, wish, before in zip(executed, asked, [0, *executed], strict=False) if wish != before
    ]
    assert len(changes) > 350
    assert 0.19 < 1 - np.mean(changes) < 0.31  # some 3 standard errors about 0.25


@pytest.mark.parametrize(("probability", "ran"), [(0.0, [2, 2, 2, 2]), (1.0, [0, 0, 0, 0])])
def test_sticky_at_its_ends(probability, ran):
    env = AtariEnv(AtariEnvConfig(sticky_probability=probability))
    env.reset(0)
    assert env.step(2).frames.executed_actions.tolist() == ran


def test_rewards_lives_and_ram_are_those_of_each_frame():
    env = AtariEnv(AtariEnvConfig(sticky_probability=0))
    ale = load_emulator("MsPacman")
    ale.reset_game()
    actions = ale.getMinimalActionSet()
    env.reset(0)
    total = 0.0
    for index in range(250):
        step = env.step(index % 9)
        for frame in range(len(step.frames.rewards)):
            assert step.frames.rewards[frame] == ale.act(actions[index % 9])
            assert step.frames.lives[frame] == ale.lives()
            np.testing.assert_array_equal(step.frames.ram[frame], ale.getRAM())
            np.testing.assert_array_equal(step.frames.screens[frame], ale.getScreen())
        assert step.reward == step.frames.rewards.sum()
        total += step.reward
    assert total > 0


def test_frames_belong_to_the_receiver():
    env = AtariEnv(AtariEnvConfig())
    env.reset(0)
    first = env.step(1)
    kept = first.frames.screens.copy(), first.obs.copy()
    first.obs.sort()  # the receiver's to write to; the screens are not, the next ones are compared with them
    assert not first.frames.screens.flags.writeable
    for _ in range(90):
        env.step(2)
    np.testing.assert_array_equal(first.frames.screens, kept[0])
    np.testing.assert_array_equal(first.obs, np.sort(kept[1]))


def test_an_episode_is_truncated_at_its_frame_cap():
    env = AtariEnv(AtariEnvConfig(max_frames=10))
    assert env.reset(0).frames.executed_actions.tolist() == [NO_ACTION]
    steps = [env.step(0) for _ in range(3)]
    assert [step.truncated for step in steps] == [False, False, True]
    assert [len(step.frames.rewards) for step in steps] == [4, 4, 2]


@pytest.mark.parametrize(
    ("game", "match"),
    [
        ("MsPackman", "did you mean MsPacman"),
        ("ms_pacman", "did you mean MsPacman"),
        ("Chess 3000 deluxe", "write a name as in ALE/MsPacman-v5"),
        ("Warlords", "is for two players"),
    ],
)
def test_an_unknown_game_is_refused_with_what_was_probably_meant(game, match):
    with pytest.raises(LapaError, match=match) as error:
        AtariEnv(AtariEnvConfig(game=game))
    assert str(error.value).startswith(f"--env.game {game}: ")


def test_games_are_named_as_gymnasium_names_them():
    gymnasium.register_envs(ale_py)
    theirs = {name.removeprefix("ALE/").removesuffix("-v5") for name in gymnasium.registry if name.startswith("ALE/")}
    assert theirs - set(rom_ids()) == set()


def test_another_game_works():
    env = AtariEnv(AtariEnvConfig(game="UpNDown"))
    env.reset(0)
    assert env.info.game == "UpNDown"
    assert env.step(1).obs.shape == (84, 84)


def test_the_emulator_is_silent():
    code = "from lapa_ray.envs.atari_env import *; AtariEnv(AtariEnvConfig()).reset(0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
