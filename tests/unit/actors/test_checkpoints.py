import pytest
import torch

from lapa_ray.actors.checkpoints import Checkpoints
from lapa_ray.actors.run_log import Counters
from lapa_ray.core.errors import DivergedError


@pytest.mark.parametrize("part", ["network", "target"])
def test_weights_that_are_no_numbers_never_become_a_checkpoint(tmp_path, part):
    learner = {name: {"head.bias": torch.zeros(3)} for name in ("network", "target")} | {"num_updates": 7}
    learner[part]["head.bias"][1] = torch.inf
    checkpoints = Checkpoints(tmp_path / "checkpoints", use_per=False, with_replay=False, config={})
    told = rf"^update 7: head\.bias of the {part} is not finite; try a lower --learner\.learning_rate\.$"
    with pytest.raises(DivergedError, match=told):
        checkpoints.save(None, learner, Counters(num_updates=7), {})
    assert checkpoints.newest_path() is checkpoints.load_run() is None
    assert not list(tmp_path.iterdir())
