"""Trainings of the toy task in this process or in Ray's workers, which import no more than they need."""

import os
import time
from pathlib import Path

from lapa_ray.core.stop import StopRequest
from lapa_ray.stages.fit import run_fit
from lapa_ray.stages.fit_config import FitResources
from lapa_ray.stages.fit_loop import FitResult
from tests.support.toy_task import ToyConfig, ToyTask


def train(folder: Path, num_workers: int, task=ToyTask, stop=None, **changes) -> FitResult:
    resources = FitResources(num_workers=num_workers, device="cpu", cpus_per_worker=0.5, checkpoint_period_updates=3)
    config = ToyConfig().model_copy(update={"resources": resources, **changes})
    folder.mkdir(exist_ok=True)
    stop = StopRequest() if stop is None else stop
    return run_fit("toy", config, lambda share, device: task(config, share, device), folder, stop)


class SlowTask(ToyTask):
    """Leaves its process id in its config's `out`, and takes its time."""

    def __init__(self, config, share, device):
        super().__init__(config, share, device)
        (config.out / "pid").write_text(str(os.getpid()))

    def loss(self, network, turn):
        time.sleep(0.1)
        return super().loss(network, turn)
