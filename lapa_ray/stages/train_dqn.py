"""`train-dqn`: ALE → agent. Workers play, one replay server remembers, one learner learns; the gameplay is kept too."""

from __future__ import annotations

from lapa_ray.actors.cluster import ray_session
from lapa_ray.actors.cluster_address import cluster_address
from lapa_ray.actors.placement import Placement
from lapa_ray.core.artefact import RUN, Artefact, Draft
from lapa_ray.core.errors import AlreadyWholeError, LapaError, StoppedError
from lapa_ray.core.metric_log import MetricLog, forget_rows_after
from lapa_ray.core.stop import StopRequest, stop_on_signal
from lapa_ray.dataset.summary import frame_figures
from lapa_ray.envs.atari_env import AtariEnv
from lapa_ray.envs.shaping import Shaper
from lapa_ray.stages.dqn_training import TrainDqnConfig, Training, checkpoints_of, require_room

GAMEPLAY = "gameplay"
CONFIG = TrainDqnConfig


def run(config: TrainDqnConfig) -> Artefact:
    """Train and write the agent artefact. Raises `StoppedError` if the user stops it; a checkpoint is kept."""
    num_actions = check(config)
    draft = Draft.begin(config, "agent")
    with ray_session(config.ray), stop_on_signal() as stop:
        require_room(config)
        return train(config, draft, num_actions, stop)


def train(
    config: TrainDqnConfig, draft: Draft, num_actions: int, stop: StopRequest, placement: Placement | None = None
) -> Artefact:
    """Train, or go on with it, in a Ray session that there is, until the end or `stop`; see `run`."""
    gameplay = None if config.no_save else _begin_gameplay(config, draft)
    checkpoints = checkpoints_of(config, draft.path, draft.run.config)
    saved = checkpoints.newest()
    if saved:
        forget_rows_after(draft.metrics_path, saved.num_steps, num_updates=saved.num_updates)
    else:
        forget_rows_after(draft.metrics_path, -1)
    frames_folder = None if gameplay is None else gameplay.path
    with MetricLog(draft.metrics_path, "train-dqn", config.wandb, draft.run.config) as log:
        training = Training(config, draft.path, num_actions, frames_folder, checkpoints, placement)
        try:
            is_done = training.run(stop, log)
            figures = training.figures()
        finally:
            training.close()
    if not is_done:
        draft.pause()
        raise StoppedError(
            f"stopped at step {figures['num_steps']:,} of {config.num_steps:,}, checkpoint saved; "
            "give the same command with --resume to continue."
        )
    if gameplay is not None:
        gameplay.finish(frame_figures(gameplay.path))
    checkpoints.forget_replay()
    replay = "prioritised" if config.use_per else "uniform"
    return draft.finish({"game": config.env.game, "num_actions": num_actions, "replay": replay, **figures})


def check(config: TrainDqnConfig) -> int:
    """Refuse what cannot work before anything is written; returns the game's number of actions."""
    if cluster_address() is None:
        config.resources.usable_device()
    if config.replay.min_size > config.replay.capacity:
        raise LapaError(
            f"--replay.min_size {config.replay.min_size}: larger than --replay.capacity {config.replay.capacity}."
        )
    if config.num_updates == 0:
        raise LapaError(
            f"--num_steps {config.num_steps}: ends before the first update (--replay.min_size "
            f"{config.replay.min_size}); play more steps, or lower min_size."
        )
    Shaper(config.shaping, config.env.game, config.learner.gamma)
    return AtariEnv(config.env).num_actions


def _begin_gameplay(config: TrainDqnConfig, draft: Draft) -> Draft | None:
    """The frames artefact inside the agent's: its own manifest, the same config. None if it is whole already."""
    out = draft.path / GAMEPLAY
    try:
        return Draft.begin(config.model_copy(update={"out": out, "resume": (out / RUN).exists()}), "frames")
    except AlreadyWholeError:
        return None
