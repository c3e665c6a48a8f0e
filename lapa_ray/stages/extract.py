"""`extract`: frames + vqvae → codes. Ray Data maps episodes over a pool of actors that hold the VQ-VAE."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ray.data
from pydantic import PositiveInt
from ray.util.annotations import RayDeprecationWarning

from lapa_ray.actors.cluster import num_gpus, ray_session, require_resources
from lapa_ray.actors.cluster_address import cluster_address
from lapa_ray.core.artefact import Artefact, Draft, open_artefact
from lapa_ray.core.config import Config, Device, PlainStageConfig, RayConfig
from lapa_ray.core.errors import LapaError, StoppedError
from lapa_ray.core.pictures import Composite
from lapa_ray.core.progress import Progress
from lapa_ray.core.stop import STOPPING, stop_on_signal
from lapa_ray.dataset.codes import CodeEpisode, CodeInfo, codes_path, read_codes, write_codes
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.evaluation.codes import CodeStatistics
from lapa_ray.models.colour import PaletteRgb
from lapa_ray.models.device import resolve_device
from lapa_ray.models.vqvae import VqvaeConfig, load_vqvae
from lapa_ray.stages.screen_codes import codes_of
from lapa_ray.stages.vqvae_data import check_size


class ExtractResources(Config):
    """Where the codes are computed."""

    part_of_identity = False

    num_workers: PositiveInt = 1
    """Ray Data actors, each with one CPU core (and one GPU where there is one for each)."""
    device: Device = "auto"
    """auto is CUDA, else MPS, else CPU."""


class ExtractConfig(PlainStageConfig):
    """Encodes every pair of consecutive frames."""

    frames: Path
    """Frames artefact to encode."""
    vqvae: Path
    """Vqvae artefact to encode with."""
    resources: ExtractResources = ExtractResources()
    """Workers and device."""
    ray: RayConfig = RayConfig()
    """A local Ray; unused when RAY_ADDRESS names a cluster."""


CONFIG = ExtractConfig


class EpisodeEncoder:
    """Encodes whole episodes and writes their files; one of these lives in each actor of the pool."""

    def __init__(self, frames: Path, vqvae: Path, out: Path, device: Device) -> None:
        artefact = open_artefact(vqvae, "vqvae")
        self._device = resolve_device(device)
        self._out = out
        self._frames = FrameDataset.open(frames)
        self._info = code_info(self._frames, artefact)
        self._model = load_vqvae(artefact).to(self._device)
        self._palette = PaletteRgb(self._frames.info.palette, self._model.config.colour).to(self._device)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Ray Data's call: a column of episode ids in, the number of steps of each out."""
        return {"num_steps": np.array([self.encode(int(episode)) for episode in batch["episode_id"]])}

    def encode(self, episode_id: int) -> int:
        """Write the codes of an episode; returns its number of steps."""
        steps = self._frames.steps(episode_id)
        codes = codes_of(self._model, self._palette, self._frames.composites(episode_id, self._info.composite))
        episode = CodeEpisode(
            codes.astype(np.int16),
            steps.actions,
            steps.executed_actions,
            steps.rewards,
            steps.terminated,
            steps.truncated,
        )
        write_codes(self._out, self._info, episode_id, episode)
        return len(episode)


def code_info(frames: FrameDataset, vqvae: Artefact) -> CodeInfo:
    """What the codes of `frames` by `vqvae` mean. They are made of the pictures that it was trained on."""
    composite: Composite = vqvae.manifest.config["pairs"]["composite"]
    return CodeInfo(
        game=frames.info.game,
        action_meanings=frames.info.action_meanings,
        codebook_size=int(vqvae.manifest.figures["codebook_size"] or 0),
        grid=VqvaeConfig.recorded(vqvae.manifest.config["model"]).grid_size,
        composite=composite,
        vqvae=vqvae.identity,
        frames=frames.artefact.identity,
    )


def run(config: ExtractConfig) -> Artefact:
    """Encode and write the codes artefact."""
    frames = FrameDataset.open(config.frames)
    check_size(frames)
    vqvae = open_artefact(config.vqvae, "vqvae")
    load_vqvae(vqvae)
    check_same_game(frames, vqvae)
    if cluster_address() is None:
        resolve_device(config.resources.device)
    draft = Draft.begin(config, "codes", {"frames": frames.artefact, "vqvae": vqvae})
    missing = [i for i in frames.episode_ids if not codes_path(draft.path, i).exists()]
    with ray_session(config.ray), stop_on_signal(said=STOPPING) as stop:
        done = len(frames.episode_ids) - len(missing)
        with Progress("extract", len(frames.episode_ids), "episodes", initial=done) as progress:
            for _ in _named(_encoded(config, missing, draft.path), draft.path) if missing else ():
                progress.advance()
                if stop:
                    draft.pause()
                    raise StoppedError("stopped; the episodes encoded so far are kept. Add --resume to continue.")
    return draft.finish(_figures(frames, vqvae, draft.path))


def check_same_game(frames: FrameDataset, vqvae: Artefact) -> None:
    """Raise `LapaError` if the VQ-VAE was trained on another game than `frames` shows."""
    game = vqvae.manifest.figures.get("game")
    if game != frames.info.game:
        raise LapaError(f"{vqvae.path}: trained on {game}, but {frames.artefact.path} shows {frames.info.game}.")


def _encoded(config: ExtractConfig, episode_ids: list[int], out: Path) -> Iterator[Any]:
    _quieten_ray_data()
    num_workers = min(config.resources.num_workers, len(episode_ids))
    gpus = num_gpus(config.resources.device, num_workers)
    require_resources(cpus=num_workers, gpus=gpus)
    dataset = ray.data.from_items([{"episode_id": i} for i in episode_ids], override_num_blocks=len(episode_ids))
    arguments = (config.frames.resolve(), config.vqvae.resolve(), out.resolve(), config.resources.device)
    with warnings.catch_warnings():
        # The one way to say max_restarts is to be removed in Ray 2.64, which is to name it like num_cpus.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        encoded = dataset.map_batches(
            EpisodeEncoder,
            fn_constructor_args=arguments,
            batch_size=1,
            num_cpus=1,
            num_gpus=gpus // num_workers,
            # A pool that may restart its actors prints an error line of Ray's C++ core at each start; an actor that
            # dies ends the stage instead, and --resume goes on with the episodes that are not encoded yet.
            max_restarts=0,
            compute=ray.data.ActorPoolStrategy(size=num_workers),
        )
    return iter(encoded.iter_rows())


def _named(rows: Iterator[Any], out: Path) -> Iterator[Any]:
    """`rows`, with the death of an actor told as what it is to the user: what `out` holds by then is kept."""
    try:
        yield from rows
    except ray.exceptions.RayActorError as error:
        again = "with --resume to continue" if any(out.glob("*.parquet")) else "again"
        raise LapaError(f"a Ray Data actor died; give the same command {again}.") from error


def _quieten_ray_data() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Whatever Ray Data logs as an error it raises too; the user reads it once, from the command line.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)


def _figures(frames: FrameDataset, vqvae: Artefact, folder: Path) -> dict[str, float | int | str | None]:
    size = int(vqvae.manifest.figures["codebook_size"] or 0)
    statistics = CodeStatistics(size, VqvaeConfig.recorded(vqvae.manifest.config["model"]).num_tokens)
    num_steps = 0
    for episode_id in frames.episode_ids:
        codes = read_codes(codes_path(folder, episode_id))[1].codes
        statistics.update(codes)
        num_steps += len(codes)
    use = statistics.compute()
    return {
        "num_episodes": len(frames.episode_ids),
        "num_steps": num_steps,
        "codebook_size": size,
        "num_actions": len(frames.info.action_meanings),
        "perplexity": use.perplexity,
        "codes_used": use.codes_used,
    }
