"""A small train-dqn whose driver kills itself: `python -m tests.support.killed_training OUT STEP [--resume]`."""

import os
import signal
import sys
from pathlib import Path

from lapa_ray.core.progress import Progress
from lapa_ray.stages import train_dqn

NUM_STEPS = 1000


def train_config(out: Path, **changes) -> train_dqn.TrainDqnConfig:
    """Real game, real learner, prioritised replay that wraps around, a checkpoint every 60 updates."""
    fields = {
        "out": out,
        "num_steps": NUM_STEPS,
        "use_per": True,
        "env": {"max_frames": 240},
        "network": {"channels": [4, 4, 4], "hidden": 16, "frame_stack": 4},
        "replay": {"capacity": 500, "min_size": 100},
        "learner": {"batch_size": 16, "target_update_period_updates": 50},
        "workers": {"num_workers": 1, "envs_per_worker": 2, "rollout_steps": 10},
        "resources": {"device": "cpu"},
        "log_period_s": 0.1,
        "checkpoint_period_updates": 60,
    }
    return train_dqn.TrainDqnConfig.model_validate(fields | changes)


def die_at(step: int) -> None:
    """Have this process killed as soon as it tells that so many steps are played."""
    plain = Progress.advance_to

    def advance_to(progress: Progress, done: int, note: str = "") -> None:
        plain(progress, done, note)
        if done >= step:
            os.kill(os.getpid(), signal.SIGKILL)

    Progress.advance_to = advance_to


if __name__ == "__main__":
    die_at(int(sys.argv[2]))
    train_dqn.run(train_config(Path(sys.argv[1]), resume="--resume" in sys.argv))
