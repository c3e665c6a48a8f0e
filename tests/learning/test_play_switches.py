"""DQN still learns, from pixels, with each switch of the play side alone."""

import pytest

from lapa_ray.actors.exploration import Ladder
from lapa_ray.actors.learner import LearnerConfig
from lapa_ray.actors.learning_view import LearningSettings
from lapa_ray.actors.rollout_worker import RolloutOptions
from lapa_ray.envs.shaping import ShapingConfig
from lapa_ray.replay.buffer import ReplayConfig
from tests.support.catch_env import CatchEnv, CatchLivesEnv
from tests.support.local_training import LocalTraining


def trained(make_env, num_steps: int, **options) -> tuple[float, float]:
    """Mean return of random play and of greedy play after training."""
    with_values = options.get("with_values", False)
    training = LocalTraining(
        make_env,
        num_steps=num_steps,
        use_per=with_values,
        replay=ReplayConfig(capacity=2000, min_size=200, samples_per_insert=8, actor_priorities=with_values),
        learner=LearnerConfig(learning_rate=1e-3, target_update_period_updates=50),
        options=RolloutOptions(**options),
    )
    random = training.mean_return(epsilon=1.0)
    training.run(lambda share: max(0.05, 1 - 2 * share))
    return random, training.mean_return(epsilon=0.0)


@pytest.mark.parametrize(
    "options", [{"ladder": Ladder(4, steepness=7.0)}, {"with_values": True}], ids=["ladder", "actor priorities"]
)
def test_catch_is_learnt(options):
    random, learnt = trained(CatchEnv, 2500, **options)
    assert learnt >= 0.6
    assert learnt >= random + 0.8


@pytest.mark.parametrize(
    "learning",
    [LearningSettings(life_loss_terminal=True), LearningSettings(shaping=ShapingConfig(life_loss=1.0))],
    ids=["life loss as terminal", "points off for a life"],
)
def test_a_game_of_lives_is_learnt(learning):
    """Ten balls at most, three misses end it: perfect play earns 10, random play some 1.5."""
    random, learnt = trained(CatchLivesEnv, 3000, learning=learning)
    assert random < 3
    assert learnt >= 5
