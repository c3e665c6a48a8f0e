"""`train-vqvae`: frames → vqvae. Learns a grid of codes for what leads from one frame to the next."""

from __future__ import annotations

from pathlib import Path

import torch

from lapa_ray.core.artefact import Artefact, Draft, open_artefact
from lapa_ray.core.errors import StoppedError
from lapa_ray.core.stop import StopRequest, stop_on_signal
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.evaluation.images import write_png
from lapa_ray.evaluation.sweep_results import SHEET, SWAP_SHEET
from lapa_ray.models.colour import PaletteRgb
from lapa_ray.models.device import resolve_device
from lapa_ray.models.vqvae import read_vqvae
from lapa_ray.stages.fit import run_fit
from lapa_ray.stages.fit_checkpoints import BEST
from lapa_ray.stages.fit_task import Figures, OnValidated
from lapa_ray.stages.held_out_actions import HeldOutActions
from lapa_ray.stages.sample_sheet import SampleSheet
from lapa_ray.stages.vqvae_config import TrainVqvaeConfig
from lapa_ray.stages.vqvae_data import check_data
from lapa_ray.stages.vqvae_task import VqvaeTask, build_loss

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
    check_perceptual(config)
    draft = Draft.begin(config, "vqvae", {"frames": dataset.artefact, **agent_of(config)}, vgg_of(config))
    there = absolute(config)
    result = run_fit(
        "train-vqvae", config, lambda share, device: VqvaeTask(there, share, device), draft.path, stop, on_validated
    )
    if not result.finished:
        draft.pause()
        raise StoppedError(f"stopped at update {result.update} of {result.num_updates}; add --resume to continue.")
    actions = _show(config, dataset, (training, held_out), draft.path)
    return draft.finish(
        {
            "num_updates": result.num_updates,
            "num_train_episodes": len(training),
            "num_validation_episodes": len(held_out),
            "game": dataset.info.game,
            "codebook_size": config.model.quantizer.codebook_size,
            **{f"val_{name}": value for name, value in (result.figures | actions).items()},
        }
    )


def agent_of(config: TrainVqvaeConfig) -> dict[str, Artefact]:
    """The agent that the loss looks through, as a parent."""
    loss = config.loss
    return {"agent": open_artefact(loss.agent, "agent")} if loss.agent_weight and loss.agent is not None else {}


def vgg_of(config: TrainVqvaeConfig) -> dict[str, Path]:
    """The file of the VGG that the loss looks through, by its option."""
    loss = config.loss
    return {"loss.vgg_weights": loss.vgg_weights} if loss.vgg_weight and loss.vgg_weights is not None else {}


def check_perceptual(config: TrainVqvaeConfig) -> None:
    """Raise `LapaError` unless the files of the networks that the loss looks through are there and fit."""
    build_loss(config.loss)


def absolute(config: TrainVqvaeConfig) -> TrainVqvaeConfig:
    """The config with absolute paths: Ray's workers run in a directory of their own, where others lead elsewhere."""
    given = {name: getattr(config.loss, name) for name in ("agent", "vgg_weights")}
    paths = {name: path.resolve() for name, path in given.items() if path is not None}
    loss = config.loss.model_copy(update=paths)
    return config.model_copy(update={"frames": config.frames.resolve(), "loss": loss})


def _show(config: TrainVqvaeConfig, dataset: FrameDataset, parts: tuple[list[int], list[int]], folder: Path) -> Figures:
    """Write what the best model makes of the chosen held-out pairs, and of code swaps; what its codes are as actions.

    `parts`: training and held-out episodes.
    """
    # Where there are workers Ray knows of the devices, and this process has none of them.
    device = torch.device("cpu") if config.resources.num_workers else resolve_device(config.resources.device)
    model = read_vqvae(folder / BEST, config.model).to(device)
    palette, composite = PaletteRgb(dataset.info.palette, config.model.colour).to(device), config.pairs.composite
    write_png(folder / SHEET, SampleSheet(dataset, parts[1], composite).draw(model, palette))
    if not config.observe.num_swaps:
        return {}
    findings = HeldOutActions(dataset, parts, composite, palette, config.observe.num_swaps).findings(model)
    if findings.sheet is not None:
        write_png(folder / SWAP_SHEET, findings.sheet)
    return dict(findings.figures)
