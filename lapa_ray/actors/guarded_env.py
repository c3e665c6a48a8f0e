"""An environment whose faults are told from those of the worker around it."""

from __future__ import annotations

from lapa_ray.actors.faults import EnvironmentFault
from lapa_ray.core.errors import LapaError
from lapa_ray.envs.environment import Environment, Step


class GuardedEnv:
    """`env`, but what it raises is an `EnvironmentFault` that names it; a `LapaError`, which is the user's, passes."""

    def __init__(self, env: Environment) -> None:
        self._env, self.info = env, env.info

    @property
    def num_actions(self) -> int:
        """How many actions there are."""
        return self._env.num_actions

    def reset(self, seed: int) -> Step:
        """Start an episode."""
        try:
            return self._env.reset(seed)
        except LapaError:
            raise
        except Exception as error:
            raise _named(error) from error

    def step(self, action: int) -> Step:
        """One agent step."""
        try:
            return self._env.step(action)
        except LapaError:
            raise
        except Exception as error:
            raise _named(error) from error


def _named(error: Exception) -> EnvironmentFault:
    lines = str(error).splitlines()
    return EnvironmentFault(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)
