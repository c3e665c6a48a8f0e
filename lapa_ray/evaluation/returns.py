"""Returns: the score of the recorded episodes beside random play in the same game, played now.

Random play draws each action uniformly, as `record` does with `policy: random`. Knows no agent.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from lapa_ray.core.seeds import generator_for, seed_for
from lapa_ray.envs.environment import Environment
from lapa_ray.evaluation.estimates import Estimate, PooledRatio
from lapa_ray.evaluation.figures import Figure, FigureGroup


def play_random_episode(environment: Environment, seed: int, number: int, max_steps: int | None = None) -> float:
    """Raw score of random episode `number`, of `max_steps` at most; `seed` fixes the game and the actions."""
    generator = generator_for(seed, "random play", number)
    environment.reset(seed_for(seed, "random episode", number))
    score = 0.0
    for _ in itertools.islice(itertools.count(), max_steps):
        step = environment.step(int(generator.integers(environment.num_actions)))
        score += step.reward
        if step.is_last:
            break
    return score


def mean_return(returns: Sequence[float], seed: int) -> Estimate:
    """Mean score of an episode."""
    ratio = PooledRatio()
    for number, score in enumerate(returns):
        ratio.add(number, score, 1)
    return ratio.estimate(seed=seed)


def returns_group(recorded: Sequence[float], random: Sequence[float], seed: int, data: str, note: str) -> FigureGroup:
    """The mean return of the recorded episodes beside random play."""
    figure = Figure(
        name="return_mean",
        label="Return, mean of episodes",
        unit="points",
        better="higher",
        estimate=mean_return(recorded, seed),
        baselines={"random": mean_return(random, seed)},
        note=note,
    )
    return FigureGroup(name="returns", title="Return (agent)", data=data, figures=(figure,))
