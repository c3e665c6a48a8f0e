"""`train-vqvae`: frames → vqvae. Learns a grid of codes for what leads from one frame to the next."""

from __future__ import annotations

from pathlib import Path

from lapa_ray.core.artefact import Artefact, Draft, open_artefact
from lapa_ray.core.errors import StoppedError
from lapa_ray.core.stop import StopRequest, stop_on_signal
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.evaluation.images import write_png
from lapa_ray.evaluation.sweep_results import SHEET
from lapa_ray.models.colour import PaletteRgb
from lapa_ray.models.vqvae import read_vqvae
from lapa_ray.stages.fit import run_fit
from lapa_ray.stages.fit_checkpoints import BEST
from lapa_ray.stages.fit_task import OnValidated
from lapa_ray.stages.sample_sheet import SampleSheet
from lapa_ray.stages.vqvae_config import TrainVqvaeConfig
from lapa_ray.stages.vqvae_data import check_data
from lapa_ray.stages.vqvae_task import VqvaeTask

CONFIG = TrainVqvaeConfig


def run(config: TrainVqvaeConfig) -> Artefact:
    """Train and write the vqvae artefact."""
    with stop_on_signal() as stop:
        return train(config, stop)


def train(config: TrainVqvaeConfig, stop: StopRequest, on_validated: OnValidated | None = None) -> Artefact:
    """Train until done or stopped; `on_validated` hears of every validation, in a training without workers alone.

    Raises `StoppedError`.
    """
    dataset, training, held_out = check_data(config)
    draft = Draft.begin(config, "vqvae", {"frames": dataset.artefact, **agent_of(config)})
    there = absolute(config)
    result = run_fit(
        "train-vqvae", config, lambda share, device: VqvaeTask(there, share, device), draft.path, stop, on_validated
    )
    if not result.finished:
        draft.pause()
        raise StoppedError(f"stopped at update {result.update} of {result.num_updates}; add --resume to continue.")
    _write_samples(config, dataset, held_out, draft.path)
    return draft.finish(
        {
            "num_updates": result.num_updates,
            "num_train_episodes": len(training),
            "num_validation_episodes": len(held_out),
            "game": dataset.info.game,
            "codebook_size": config.model.quantizer.codebook_size,
            **{f"val_{name}": value for name, value in result.figures.items()},
        }
    )


def agent_of(config: TrainVqvaeConfig) -> dict[str, Artefact]:
    """The agent that the loss looks through, as a parent."""
    loss = config.loss
    return {"agent": open_artefact(loss.agent, "agent")} if loss.agent_weight and loss.agent is not None else {}


def absolute(config: TrainVqvaeConfig) -> TrainVqvaeConfig:
    """The config with absolute paths: Ray's workers run in a directory of their own, where others lead elsewhere."""
    given = {name: getattr(config.loss, name) for name in ("agent", "vgg_weights")}
    paths = {name: path.resolve() for name, path in given.items() if path is not None}
    loss = config.loss.model_copy(update=paths)
    return config.model_copy(update={"frames": config.frames.resolve(), "loss": loss})


def _write_samples(config: TrainVqvaeConfig, dataset: FrameDataset, held_out: list[int], folder: Path) -> None:
    """Write `reconstructions.png`: what the best model makes of the chosen held-out pairs."""
    model = read_vqvae(folder / BEST, config.model)
    palette = PaletteRgb(dataset.info.palette, config.model.colour)
    sheet = SampleSheet(dataset, held_out, config.pairs.composite).draw(model, palette)
    write_png(folder / SHEET, sheet)
