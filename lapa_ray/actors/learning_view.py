"""The learning view: steps of an environment in, the rewards and ends that are learnt from out.

Only what goes to the replay server is seen so: returns that are logged and gameplay that is recorded stay as the game
gave them, and the game itself goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lapa_ray.core.frames import GameInfo
from lapa_ray.envs.environment import Step
from lapa_ray.envs.shaping import Shaper, ShapingConfig


@dataclass(frozen=True)
class LearningSettings:
    """What of the learner's config decides what the workers send; `gamma` a step, for potentials."""

    clip_rewards: bool = False
    life_loss_terminal: bool = False
    gamma: float = 0.99
    shaping: ShapingConfig = field(default_factory=ShapingConfig)


class LearningView:
    """What is learnt of one environment's steps.

    A reward is the score of the step, clipped to [−1, 1] where that is asked for, and then what shaping adds: clipped
    sums would be no potentials any more. Where a lost life counts as a terminal, the next step is an ordinary
    transition: its stack may hold frames from before the loss.
    """

    def __init__(self, settings: LearningSettings, info: GameInfo) -> None:
        """Raises `LapaError` for shaping that the game of `info` does not have."""
        self._settings = settings
        shaper = Shaper(settings.shaping, info.game, settings.gamma)
        self._shaper = shaper if settings.shaping != ShapingConfig() else None
        self._lives = 0

    def begin(self, step: Step) -> None:
        """Begin an episode, of which `step` is the reset."""
        self._lives = int(step.frames.lives[-1])
        if self._shaper is not None:
            self._shaper.begin(step.frames)

    def see(self, step: Step) -> tuple[float, bool]:
        """Reward and terminated of `step` as they are learnt."""
        reward, terminated = step.reward, step.terminated
        if self._settings.clip_rewards:
            reward = min(max(reward, -1.0), 1.0)
        if self._settings.life_loss_terminal:
            terminated = terminated or self._loses_life(step)
        if self._shaper is not None:
            reward += self._shaper(step.frames, terminated=terminated)
        return reward, terminated

    def _loses_life(self, step: Step) -> bool:
        before, self._lives = self._lives, int(step.frames.lives[-1])
        return self._lives < before
