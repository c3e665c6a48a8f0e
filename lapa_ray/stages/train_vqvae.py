"""`train-vqvae`: frames → vqvae. Learns a grid of codes for what leads from one frame to the next."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from lapa_ray.core.artefact import Artefact, Draft
from lapa_ray.core.config import Config, RayConfig, StageConfig
from lapa_ray.core.errors import LapaError, StoppedError
from lapa_ray.core.pictures import Composite, Screen, changed, to_rgb
from lapa_ray.core.seeds import seed_for
from lapa_ray.core.stop import stop_on_signal
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.splits import split_episodes
from lapa_ray.dataset.stream import Draw
from lapa_ray.evaluation.codes import CodeStatistics
from lapa_ray.evaluation.exhibits import choose_pairs
from lapa_ray.evaluation.images import contact_sheet, error_heat, write_png
from lapa_ray.evaluation.pixels import PixelMetrics, to_8bit
from lapa_ray.evaluation.reconstruction import hwc
from lapa_ray.models.colour import PaletteRgb
from lapa_ray.models.vqvae import HEIGHT, NUM_TOKENS, WIDTH, Vqvae, VqvaeConfig, read_vqvae
from lapa_ray.stages.fit import BEST, Figures, FitResources, Share, TrainingConfig, Turn, batch_size, run_fit
from lapa_ray.stages.pair_sources import Pair, ValidationPairs, training_pairs

HELD_OUT = 0.1
SAMPLES = "reconstructions.png"
VALIDATION_BATCH = 64


class PairConfig(Config):
    """Which pictures the pairs are made of."""

    composite: Composite = "max4"
    """Picture of a step: brightest of its last 4 or 2 frames, or its last frame."""
    max_memory_gb: float = Field(4.0, gt=0)
    """Bound on all pictures that one worker holds, GB; 34 kB a step. What does not fit is streamed from the shards."""


class TrainVqvaeConfig(StageConfig):
    """Trains the VQ-VAE on pairs of consecutive frames; the defaults are the source's final model."""

    frames: Path
    """Frames artefact to learn from."""
    pairs: PairConfig = PairConfig()
    """Pairs."""
    model: VqvaeConfig = VqvaeConfig()
    """Network."""
    learning_rate: float = Field(3e-4, gt=0)
    """Step size of Adam, per update, at the start."""
    final_learning_rate: float | None = Field(None, gt=0)
    """Step size at the end, approached in a straight line; the same throughout if not given."""
    changed_pixel_weight: float = Field(0.0, ge=0)
    """Extra weight in the squared error of pixels that change from t to t+1; 0 is the source's plain mean."""
    training: TrainingConfig = TrainingConfig()
    """Length and portions."""
    resources: FitResources = FitResources()
    """Workers and device."""
    ray: RayConfig = RayConfig()
    """A local Ray; unused when RAY_ADDRESS names a cluster."""


CONFIG = TrainVqvaeConfig


class VqvaeTask:
    """The VQ-VAE with its data: a worker holds its share of the training episodes, rank 0 the validation split too."""

    def __init__(self, config: TrainVqvaeConfig, share: Share, device: torch.device) -> None:
        torch.manual_seed(seed_for(config.seed, "model"))
        self._config, self._device = config, device
        dataset = FrameDataset.open(config.frames)
        check_size(dataset)
        train, held_out = split_episodes(dataset.episode_ids, HELD_OUT, dataset.name)
        pairs = config.pairs
        draw = Draw(
            batch_size(config.training, share),
            composite=pairs.composite,
            seed=config.seed,
            drop_last=True,
            rank=share.rank,
            world_size=share.world_size,
        )
        self._train = training_pairs(dataset, train, draw, pairs.max_memory_gb)
        self._held_out: ValidationPairs | None = None
        if share.rank == 0:
            left_gb = pairs.max_memory_gb - self._train.gigabytes
            self._held_out = ValidationPairs(dataset, held_out, pairs.composite, left_gb)
        self._copy_last: PixelMetrics | None = None
        self._palette = PaletteRgb(dataset.info.palette).to(device)
        self.model: nn.Module = Vqvae(config.model).to(device)
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate)

    @property
    def num_items(self) -> int:
        """Training pairs of this worker."""
        return self._train.num_items

    def learning_rate(self, epoch: int, progress: float) -> float:  # noqa: ARG002
        """A straight line from `learning_rate` to `final_learning_rate`."""
        first, last = self._config.learning_rate, self._config.final_learning_rate
        return first if last is None else first + (last - first) * progress

    def loss(self, network: nn.Module, turn: Turn) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstruction error, weighted, plus the quantiser's loss."""
        frame_t, frame_t1, changed = self._pictures(self._train.batch(turn))
        output = network(frame_t, frame_t1)
        reconstruction = self._error(output.reconstruction, frame_t1, changed)
        loss = reconstruction + output.quantizer_loss
        return loss, {"reconstruction_loss": reconstruction.detach(), "quantizer_loss": output.quantizer_loss.detach()}

    @torch.inference_mode()
    def validate(self, tick: Callable[[float], None]) -> Figures:
        """Loss, PSNR, SSIM beside copy-last, and the use of the codes, over the whole validation split."""
        assert self._held_out is not None
        pixels, copy_last = PixelMetrics(), PixelMetrics() if self._copy_last is None else None
        codes = CodeStatistics(self._config.model.quantizer.codebook_size, NUM_TOKENS)
        total, done, count = 0.0, 0, self._held_out.num_items
        for pair in self._held_out.batches(VALIDATION_BATCH):
            frame_t, frame_t1, changed = self._pictures(pair)
            output = self.model(frame_t, frame_t1)
            error = self._error(output.reconstruction, frame_t1, changed)
            total += len(frame_t) * float(error + output.quantizer_loss)
            predicted, true = to_8bit(output.reconstruction), to_8bit(frame_t1)
            pixels.update(predicted, true, changed, with_ssim=True)
            if copy_last is not None:  # the same at each validation
                copy_last.update(to_8bit(frame_t), true, changed, with_ssim=True)
            codes.update(output.codes.cpu().numpy())
            done += len(frame_t)
            tick(done / count)
        self._copy_last = copy_last or self._copy_last
        assert self._copy_last is not None
        return {"loss": total / count} | _values(pixels, self._copy_last, codes)

    def _error(self, reconstruction: Tensor, frame_t1: Tensor, changed: Tensor) -> Tensor:
        """Weighted mean of the squared error of RGB [B, 3, H, W], with the changed pixels' weight at `changed`."""
        squared = (reconstruction - frame_t1).square().mean(dim=1)
        if not self._config.changed_pixel_weight:
            return squared.mean()
        weights = 1 + self._config.changed_pixel_weight * changed
        return (weights * squared).sum() / weights.sum()

    def _pictures(self, pair: Pair) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures t and t+1, RGB [B, 3, 210, 160], and where they differ, bool [B, 210, 160]."""
        index_t, index_t1 = (torch.from_numpy(part).to(self._device) for part in pair)
        differ = index_t != index_t1
        # RGB screens have their channels last.
        return self._palette(index_t), self._palette(index_t1), differ if differ.ndim == 3 else differ.any(dim=-1)


def check_size(dataset: FrameDataset) -> None:
    """Raise `LapaError` unless there is a step, and the screens are of the size that the network takes."""
    if not dataset.num_steps_total:
        raise LapaError(f"{dataset.name}: has no step, only first frames of episodes; record longer ones.")
    if (dataset.info.height, dataset.info.width) != (HEIGHT, WIDTH):
        raise LapaError(
            f"{dataset.name}: screens of {dataset.info.height}×{dataset.info.width}; the VQ-VAE takes {HEIGHT}×{WIDTH}."
        )


def check_steps(dataset: FrameDataset, *parts: list[int]) -> None:
    """Raise `LapaError` for a part without a pair: an episode cut at its first frame has none."""
    if not all(any(dataset.num_steps(episode) for episode in part) for part in parts):
        raise LapaError(f"{dataset.name}: every episode of a split ends at its first frame; record longer ones.")


def run(config: TrainVqvaeConfig) -> Artefact:
    """Train and write the vqvae artefact."""
    dataset = FrameDataset.open(config.frames)
    check_size(dataset)
    train, held_out = split_episodes(dataset.episode_ids, HELD_OUT, dataset.name)
    check_steps(dataset, train, held_out)
    draft = Draft.begin(config, "vqvae", {"frames": dataset.artefact})
    # Ray's workers run in a directory of their own, where a relative path would lead elsewhere.
    there = config.model_copy(update={"frames": config.frames.resolve()})
    with stop_on_signal() as stop:
        result = run_fit("train-vqvae", config, lambda share, device: VqvaeTask(there, share, device), draft.path, stop)
    if not result.finished:
        draft.pause()
        raise StoppedError(f"stopped at update {result.update} of {result.num_updates}; add --resume to continue.")
    _write_samples(config, dataset, held_out, draft.path)
    return draft.finish(
        {
            "num_updates": result.num_updates,
            "num_train_episodes": len(train),
            "num_validation_episodes": len(held_out),
            "game": dataset.info.game,
            "codebook_size": config.model.quantizer.codebook_size,
            **{f"val_{name}": value for name, value in result.figures.items()},
        }
    )


def _write_samples(config: TrainVqvaeConfig, dataset: FrameDataset, held_out: list[int], folder: Path) -> None:
    """Write `reconstructions.png`: for the chosen held-out pairs frame t, frame t+1, its reconstruction, the error."""
    model, palette = read_vqvae(folder / BEST, config.model), PaletteRgb(dataset.info.palette)
    chosen = choose_pairs(
        {episode: _changed_pixels(dataset, _composites(config, dataset, episode)) for episode in held_out}
    )
    rows = []
    for episode, step in chosen.values():
        pair = _composites(config, dataset, episode)[step : step + 2]
        before, after = to_rgb(pair, dataset.info.palette)
        rgb_t, rgb_t1 = palette(torch.from_numpy(pair)).unsqueeze(1)
        (reconstructed,) = hwc(to_8bit(model.decode(model.encode_pair(rgb_t, rgb_t1))))
        rows.append([before, after, reconstructed, error_heat(reconstructed, after)])
    write_png(folder / SAMPLES, contact_sheet(rows))


def _composites(config: TrainVqvaeConfig, dataset: FrameDataset, episode_id: int) -> Screen:
    return dataset.composites(episode_id, config.pairs.composite)


def _changed_pixels(dataset: FrameDataset, composites: Screen) -> NDArray[np.int64]:
    """Changed pixels int64 [T] of each pair of an episode."""
    pairs = itertools.pairwise(composites)  # one at a time: all at once would take the memory twice
    palette = dataset.info.palette
    return np.array([np.count_nonzero(changed(before, after, palette)) for before, after in pairs], dtype=np.int64)


def _values(pixels: PixelMetrics, copy_last: PixelMetrics, codes: CodeStatistics) -> Figures:
    use = codes.compute()
    figures = {
        "psnr_db": pixels.psnr().value,
        "copy_last_psnr_db": copy_last.psnr().value,
        "changed_psnr_db": pixels.changed_psnr().value,
        "copy_last_changed_psnr_db": copy_last.changed_psnr().value,
        "ssim": pixels.ssim().value,
        "copy_last_ssim": copy_last.ssim().value,
        "perplexity": use.perplexity,
    }
    return {name: float("nan") if v is None else v for name, v in figures.items()} | {"codes_used": use.codes_used}
