"""Who plays an episode: what the last step gave in, the next action out. All chance comes from the episode's id."""

from __future__ import annotations

from typing import Protocol

from lapa_ray.actors.policy import EpsilonGreedy
from lapa_ray.core.seeds import generator_for
from lapa_ray.envs.environment import FrameStack, RestorableEnvironment, Step
from lapa_ray.envs.planner import PLANNER, Planner


class EpisodePolicy(Protocol):
    """Plays one episode after another."""

    def begin(self, episode_id: int, step: Step) -> None:
        """Begin an episode, of which `step` is the reset."""

    def act(self) -> int:
        """The next action."""

    def see(self, step: Step) -> None:
        """Take in what the action led to."""


class NetworkPolicy:
    """ε-greedy play of a network on stacks of `frame_stack` observations."""

    def __init__(self, policy: EpsilonGreedy, epsilon: float, frame_stack: int, seed: int) -> None:
        self._policy, self._epsilon, self._seed = policy, epsilon, seed
        self._frames = FrameStack(frame_stack)

    def begin(self, episode_id: int, step: Step) -> None:
        """Begin an episode."""
        self._generator = generator_for(self._seed, "policy", episode_id)
        self._stack = self._frames.reset(step.obs)

    def act(self) -> int:
        """The next action."""
        return int(self._policy.act(self._stack[None], self._epsilon, [self._generator])[0])

    def see(self, step: Step) -> None:
        """Take in what the action led to."""
        self._stack = self._frames.push(step.obs)


class PlannerPolicy:
    """The planner, looking ahead from where `env` is."""

    def __init__(self, planner: Planner, env: RestorableEnvironment, seed: int) -> None:
        self._planner, self._env, self._seed = planner, env, seed

    def begin(self, episode_id: int, step: Step) -> None:
        """Begin an episode."""
        self._planner.reset(generator_for(self._seed, PLANNER, episode_id))
        self._ram = step.frames.ram[-1]

    def act(self) -> int:
        """The next action."""
        return self._planner.act(self._env.snapshot(), self._ram)

    def see(self, step: Step) -> None:
        """Take in what the action led to."""
        self._ram = step.frames.ram[-1]
