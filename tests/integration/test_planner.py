"""The simulator and the planner on the real emulator."""

from __future__ import annotations

import numpy as np
import pytest

from lapa_ray.envs.atari_env import AtariEnv, AtariEnvConfig
from lapa_ray.envs.environment import Step
from lapa_ray.envs.planner import Planner, PlannerConfig
from lapa_ray.envs.simulator import Simulator
from lapa_ray.evaluation.returns import play_random_episode

INTRO_STEPS = 70
NUM_STEPS = 180


class Always:
    """A generator that draws the same number of repeats every time."""

    def __init__(self, repeats: int) -> None:
        self._draw = repeats + 1

    def geometric(self, p: float, size: int) -> np.ndarray:
        return np.full(size, self._draw)


def after_intro(**config) -> tuple[AtariEnv, AtariEnvConfig]:
    settings = AtariEnvConfig(**config)
    env = AtariEnv(settings)
    env.reset(0)
    for _ in range(INTRO_STEPS * 4 // settings.frame_skip):
        env.step(3)
    return env, settings


def frames_of(step: Step) -> bytes:
    return b"".join(
        part.tobytes()
        for part in (step.frames.screens, step.frames.ram, step.frames.executed_actions, step.frames.rewards)
    )


def test_the_simulator_plays_as_the_environment_does():
    env, settings = after_intro(sticky_probability=0)
    simulator, generator = Simulator(settings), np.random.default_rng(0)
    simulator.restore(env.snapshot())
    for _ in range(150):
        action = int(generator.integers(env.num_actions))
        step = env.step(action)
        assert simulator.step(action) == step.reward
        np.testing.assert_array_equal(simulator.ram, step.frames.ram[-1])
    assert simulator.num_steps == 150


@pytest.mark.parametrize("repeats", [0, 1, 3, 4, 9])
def test_a_change_of_action_sticks_for_as_many_frames_as_were_drawn(repeats):
    settings = AtariEnvConfig()
    by_frame, _ = after_intro(sticky_probability=0, frame_skip=1)
    simulator = Simulator(settings)
    simulator.seed(Always(repeats))
    simulator.restore(by_frame.snapshot())
    for before, action in ((3, 2), (2, 2), (2, 4), (4, 3)):
        if simulator.save().executed != before:
            break  # it stuck for the whole step
        simulator.step(action)
        for frame in range(4):
            last = by_frame.step(action if action == before or frame >= repeats else before)
        np.testing.assert_array_equal(simulator.ram, last.frames.ram[-1])
        assert simulator.save().executed == (action if action == before or repeats < 4 else before)


@pytest.mark.parametrize(("probability", "stuck"), [(0.0, 0.0), (0.25, 0.25), (1.0, 1.0)])
def test_actions_stick_at_the_asked_rate(probability, stuck):
    env, settings = after_intro(sticky_probability=probability, frame_skip=1)
    simulator = Simulator(settings)
    simulator.restore(env.snapshot())
    changed = kept = 0
    for number in range(1500):
        before, action = simulator.save().executed, 2 + number % 2
        simulator.step(action)
        if action != before:
            changed, kept = changed + 1, kept + (simulator.save().executed == before)
    assert kept / changed == pytest.approx(stuck, abs=0.06)  # 4 standard errors


@pytest.fixture(scope="module")
def planned():
    """A planner's first steps: the environment's steps and the actions, twice."""
    settings = AtariEnvConfig()
    env, simulator = AtariEnv(settings), Simulator(settings)
    planner = Planner(simulator, env.info.action_meanings, PlannerConfig(budget_steps=10))
    return [_play(env, planner), _play(env, planner)]


def _play(env: AtariEnv, planner: Planner) -> tuple[list[Step], list[int]]:
    planner.reset(np.random.default_rng(7))
    steps, actions = [env.reset(5)], []
    while len(actions) < NUM_STEPS and not steps[-1].is_last:
        actions.append(planner.act(env.snapshot(), steps[-1].frames.ram[-1]))
        steps.append(env.step(actions[-1]))
    return steps, actions


def test_planning_leaves_the_environment_as_it_was(planned):
    """Its actions, replayed without a planner, give the very same episode: sticky draws and all."""
    steps, actions = planned[0]
    env = AtariEnv(AtariEnvConfig())
    assert frames_of(env.reset(5)) == frames_of(steps[0])
    assert all(frames_of(env.step(action)) == frames_of(step) for action, step in zip(actions, steps[1:], strict=True))


def test_a_planned_episode_is_decided_by_its_seeds(planned):
    (first, actions), (again, same) = planned
    assert actions == same
    assert [frames_of(step) for step in first] == [frames_of(step) for step in again]


def test_it_scores_and_lives_where_random_play_does_not(planned):
    env = AtariEnv(AtariEnvConfig())
    random = [play_random_episode(env, 0, number, max_steps=NUM_STEPS) for number in range(3)]
    steps, _ = planned[0]
    assert sum(step.reward for step in steps) > max(random)
    assert steps[-1].frames.lives[-1] == 3
