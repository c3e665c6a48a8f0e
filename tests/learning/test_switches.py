"""Each switch of the network and of the loss, alone, still learns Catch from pixels; and so does all of it together."""

import numpy as np
import pytest

from lapa_ray.actors.learner import LearnerConfig
from lapa_ray.models.q_network import QNetworkConfig
from tests.support.catch_training import SMALL, CatchTraining

QUANTILE = {"head": "quantile", "num_quantiles": 8, "num_target_quantiles": 8, "num_cosines": 16}
FAST = {"learning_rate": 3e-3, "target_update_period_updates": 15, "max_gradient_norm": 10.0}
SWITCHES = {
    "none": {},
    "dueling": {"network": {"dueling": True}},
    "noisy": {"network": {"noisy": True}, "epsilon": 0.0, "num_updates": 720},
    "impala_light": {"network": {"torso": "impala_light"}, "num_updates": 280},
    "quantile": {"network": QUANTILE},
    "munchausen": {"learner": {"munchausen": True}},
    "value_rescaling": {"learner": {"value_rescaling": True}},
    "colour": {"others": {"obs_shape": (44, 44, 3)}},
    "bfloat16": {"others": {"precision": "bfloat16"}},
    "all": {
        "network": {**QUANTILE, "dueling": True, "noisy": True, "torso": "impala_light"},
        "learner": {"munchausen": True, "value_rescaling": True},
        "others": {"precision": "bfloat16"},
        "num_updates": 400,
    },
}


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_a_switch_alone_learns_catch(switches):
    """Better than a threshold, and than random play by more than four standard errors."""
    training = CatchTraining(
        QNetworkConfig(**SMALL, **switches.get("network", {})),
        LearnerConfig(**FAST, **switches.get("learner", {})),
        **switches.get("others", {}),
    )
    first = switches.get("epsilon", 1.0)
    random = training.returns(epsilon=1.0)
    training.run(switches.get("num_updates", 480), lambda share: first * max(0.05, 1 - 2 * share))
    learnt = training.returns(epsilon=0.0)
    assert learnt.mean() >= 0.6
    error = np.sqrt((random.var() + learnt.var()) / len(learnt))
    assert learnt.mean() - random.mean() > 4 * error
