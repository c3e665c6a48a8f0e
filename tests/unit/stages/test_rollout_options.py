"""What of a training's config the workers are told."""

import pytest

from lapa_ray.actors.rollout_worker import RolloutOptions
from lapa_ray.envs.shaping import ShapingConfig
from lapa_ray.stages.dqn_training import TrainDqnConfig, _rollout_options


def options(**fields) -> RolloutOptions:
    return _rollout_options(TrainDqnConfig.model_validate({"out": "nowhere", **fields}))


def test_by_default_they_are_told_nothing_unusual():
    plain = options()
    assert plain.ladder.epsilons(0.25, range(4)).tolist() == [0.25] * 4
    assert (plain.with_values, plain.learning.clip_rewards, plain.learning.life_loss_terminal) == (False, False, False)
    assert plain.learning.shaping == ShapingConfig()


def test_each_switch_reaches_them():
    shaping = {"life_loss": 3.0, "dot_distance": 0.5}
    learning = options(
        learner={"clip_rewards": True, "life_loss_terminal": True, "gamma": 0.9}, shaping=shaping
    ).learning
    assert (learning.clip_rewards, learning.life_loss_terminal, learning.gamma) == (True, True, 0.9)
    assert learning.shaping.model_dump() == shaping


@pytest.mark.parametrize("use_per", [False, True])
def test_values_are_worked_out_only_where_priorities_are_made_of_them(use_per):
    assert options(use_per=use_per, replay={"actor_priorities": True}).with_values == use_per


def test_the_ladder_has_a_rung_for_every_environment_of_every_worker():
    ladder = options(exploration={"ladder": True}, workers={"num_workers": 3, "envs_per_worker": 2}).ladder
    assert ladder.num_envs == 6
    assert ladder.epsilons(0.5, [5])[0] == pytest.approx(0.5**8)
