"""`train-vqvae`: frames → vqvae. Learns a grid of codes for what leads from one frame to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, model_validator
from torch import Tensor, nn

from lapa_ray.core.artefact import Artefact, Draft, open_artefact
from lapa_ray.core.config import NOT_IDENTITY, Config, RayConfig, StageConfig
from lapa_ray.core.errors import LapaError, StoppedError
from lapa_ray.core.metric_log import MetricLog
from lapa_ray.core.pictures import Composite
from lapa_ray.core.seeds import seed_for
from lapa_ray.core.stop import StopRequest, stop_on_signal
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.splits import Split, named_parts
from lapa_ray.dataset.stream import Draw
from lapa_ray.evaluation.codes import CodeStatistics
from lapa_ray.evaluation.images import write_png
from lapa_ray.evaluation.one_step_control import CONTROL_FIGURES, OneStepControl
from lapa_ray.evaluation.pixels import PixelMetrics, to_8bit
from lapa_ray.models.colour import PaletteRgb
from lapa_ray.models.perceptual import AgentDistance, VggDistance
from lapa_ray.models.q_network import load_agent
from lapa_ray.models.reconstruction_loss import LossConfig, ReconstructionLoss, Target, look_up
from lapa_ray.models.vqvae import HEIGHT, WIDTH, Vqvae, VqvaeConfig, VqvaeOutput, read_vqvae
from lapa_ray.stages.fit import run_fit
from lapa_ray.stages.fit_checkpoints import BEST
from lapa_ray.stages.fit_config import FitResources, TrainingConfig
from lapa_ray.stages.fit_schedule import batch_size
from lapa_ray.stages.fit_share import Share
from lapa_ray.stages.fit_task import Figures, OnValidated, Turn
from lapa_ray.stages.held_out_sprites import HeldOutSprites
from lapa_ray.stages.pair_sources import Chances, Pair, ValidationPairs, training_pairs
from lapa_ray.stages.pair_weights import Balance, pair_chances
from lapa_ray.stages.sample_sheet import SampleSheet
from lapa_ray.stages.vqvae_observer import CollapseWatch, ObservationConfig, VqvaeObserver

SAMPLES = "reconstructions.png"
VALIDATION_BATCH = 64
VALIDATION_FIGURES = (
    *("loss", "psnr_db", "copy_last_psnr_db", "changed_psnr_db", "copy_last_changed_psnr_db", "ssim"),
    *("copy_last_ssim", "perplexity", "codes_used"),
    *CONTROL_FIGURES,
)
NUM_SSIM_PAIRS = 512
"""Held-out pairs, evenly spaced, whose SSIM is taken at a validation: at 20 ms a picture that of all would take longer
than the rest of the validation."""
MOTION_PICTURES = 32
"""Pictures that are read at once to see whether anything moves."""
COLOUR_EPISODES = 8
"""Training episodes whose pixels are counted where colours are classes."""


class PairConfig(Config):
    """Which pictures the pairs are made of."""

    split: Split = "90/10"
    """Shares of the episodes for training and for validation, which chooses the best checkpoint; with 80/10/10 the
    last tenth takes part in neither, and evaluate measures on it."""

    composite: Composite = "max4"
    """Picture of a step: brightest of its last 4 or 2 frames, or its last frame."""
    max_memory_gb: float = Field(4.0, gt=0)
    """Bound on all pictures that one worker holds, GB; 34 kB a step. What does not fit is streamed from the shards."""
    balance: Balance = "none"
    """Which kinds of pairs are drawn as often as each other: none, all pairs alike; motion, by powers of two of the
    changed pixels; dots, with and without a dot eaten; mazes."""
    leave_out_frozen: bool = False
    """Leave out pairs in which the game stands still (intro, deaths, between levels); needs RAM."""


class VqvaeTraining(Config):
    """What a training of the VQ-VAE does; the defaults are the source's final model."""

    pairs: PairConfig = PairConfig()
    """Pairs."""
    model: VqvaeConfig = VqvaeConfig()
    """Network."""
    learning_rate: float = Field(3e-4, gt=0)
    """Step size of Adam, per update, at the start."""
    final_learning_rate: float | None = Field(None, gt=0)
    """Step size at the end, approached in a straight line; the same throughout if not given."""
    loss: LossConfig = LossConfig()
    """Reconstruction loss."""
    training: TrainingConfig = TrainingConfig()
    """Length and portions."""
    resources: FitResources = FitResources()
    """Workers and device."""
    observe: ObservationConfig = ObservationConfig()
    """What is looked at along the way."""
    collapse_period_updates: Annotated[NonNegativeInt, NOT_IDENTITY] = 2000
    """Updates over which codes of a perplexity below 2 end the training, for the codebook has collapsed (of two codes,
    below 1: never); 0 goes on."""

    @model_validator(mode="after")
    def _check_loss(self) -> Self:
        if (self.loss.kind == "cross_entropy") != (self.model.output == "palette"):
            raise ValueError(
                f"loss.kind: cross_entropy and model.output palette go together; got {self.loss.kind} with "
                f"{self.model.output}"
            )
        if self.loss.rare_colour_power and self.model.output != "palette":
            raise ValueError("loss.rare_colour_power: needs model.output palette, whose colours it counts")
        if self.loss.common_share < 1 and (self.model.output != "palette" or self.model.shrink > 1):
            raise ValueError("loss.common_share: needs model.output palette and shrink 1; leave it out, or set them")
        for term, source in (("agent", "agent"), ("vgg", "vgg_weights")):
            if getattr(self.loss, f"{term}_weight") and getattr(self.loss, source) is None:
                raise ValueError(f"loss.{term}_weight: needs loss.{source}; give its path")
        return self


class TrainVqvaeConfig(VqvaeTraining, StageConfig):
    """Trains the VQ-VAE on pairs of consecutive frames; the defaults are the source's final model."""

    frames: Path
    """Frames artefact to learn from."""
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
        pairs = config.pairs
        train, held_out, _ = named_parts(dataset.episode_ids, pairs.split, dataset.name)
        draw = Draw(
            batch_size(config.training, share),
            composite=pairs.composite,
            seed=config.seed,
            drop_last=True,
            rank=share.rank,
            world_size=share.world_size,
        )
        if config.model.num_tokens == 1 and draw.batch_size < 2:
            raise LapaError(
                f"--training.batch_size {config.training.batch_size}: grid 1x1 normalises over pairs, so each worker "
                "needs two at least."
            )
        self._train = training_pairs(dataset, train, draw, pairs.max_memory_gb, _chances(pairs))
        self._held_out: ValidationPairs | None = None
        if share.rank == 0:
            left_gb = pairs.max_memory_gb - self._train.gigabytes
            self._held_out = ValidationPairs(dataset, held_out, pairs.composite, left_gb)
        self._copy_last: _HeldOutPixels | None = None
        self._palette = PaletteRgb(dataset.info.palette, config.model.colour).to(device)
        self._sprites = HeldOutSprites(dataset, held_out, pairs.composite, self._palette)
        self._observer = VqvaeObserver(
            config.observe, dataset, held_out, pairs.composite, self._palette, self._pictures
        )
        self._collapse = CollapseWatch(config.model.quantizer.codebook_size, config.collapse_period_updates)
        self._criterion = build_loss(config.loss).to(device)
        self._vqvae = Vqvae(config.model).to(device)
        self._vqvae.checkpoints_gradients = config.resources.checkpoint_gradients
        self._classes: Tensor | None = None
        if config.model.output == "palette":
            self._classes = self._choose_colours(dataset, train)
        self.model: nn.Module = self._vqvae
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(
            self.model.parameters(), lr=config.learning_rate, fused=True
        )

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
        target = self._target(self._train.batch(turn), samples=True)
        output = network(target.frame_t, target.frame_t1, target.places)
        self._collapse.add(output)
        parts = self._parts(output, target)
        return sum(parts.values(), torch.zeros_like(output.quantizer_loss)), {
            name: part.detach() for name, part in parts.items()
        }

    def observe(self, update: int, log: MetricLog, folder: Path) -> None:
        """Figures, codes and pictures of the same held-out pairs each time, and whether the codebook has collapsed."""
        self._collapse.check(update)
        self._observer(self._vqvae, update, log, folder)

    @torch.inference_mode()
    def validate(self, tick: Callable[[float], None]) -> Figures:
        """Loss, PSNR, SSIM beside copy-last, use and effect of the codes, over the whole validation split; and which of
        some pairs' sprites are shown.
        """
        assert self._held_out is not None
        count = self._held_out.num_items
        pixels, copy_last = _HeldOutPixels(count), _HeldOutPixels(count) if self._copy_last is None else None
        codes = CodeStatistics(self._config.model.quantizer.codebook_size, self._config.model.num_tokens)
        control = OneStepControl(self._vqvae.decode)
        total, done = 0.0, 0
        in_all = count + self._sprites.num_pairs
        for pair in self._held_out.batches(VALIDATION_BATCH):
            target = self._target(pair)
            frame_t, frame_t1, changed = target.frame_t, target.frame_t1, target.changed
            output = self.model(frame_t, frame_t1)
            total += len(frame_t) * sum(float(part) for part in self._parts(output, target).values())
            predicted, true = to_8bit(self._vqvae.picture(output)), to_8bit(frame_t1)
            pixels.update(predicted, true, changed)
            if copy_last is not None:  # the same at each validation
                copy_last.update(to_8bit(frame_t), true, changed)
            codes.update(output.codes.cpu().numpy())
            control.update(output.codes, frame_t, predicted, true, changed)
            done += len(frame_t)
            tick(done / in_all)
        self._copy_last = copy_last or self._copy_last
        assert self._copy_last is not None
        values = pixels.figures() | {f"copy_last_{name}": value for name, value in self._copy_last.figures().items()}
        use = codes.compute()
        values |= {"perplexity": _number(use.perplexity), "codes_used": use.codes_used}
        sprites = self._sprites.figures(self._vqvae, lambda more: tick((count + more) / in_all))
        tick(1.0)
        return {"loss": total / count} | values | control.figures() | sprites

    def _parts(self, output: VqvaeOutput, target: Target) -> dict[str, Tensor]:
        """What adds up to the loss."""
        parts: dict[str, Tensor] = self._criterion(self._vqvae, output, target)
        return parts | {"quantizer_loss": output.quantizer_loss}

    def _target(self, pair: Pair, *, samples: bool = False) -> Target:
        """What a reconstruction is to be; classes are looked up by index, which is faster than by colour."""
        frame_t, frame_t1, changed = self._pictures(pair)
        classes = None
        if self._classes is not None:
            classes = look_up(self._classes, torch.from_numpy(pair[1]).to(self._device).int())
        return self._criterion.target(self._vqvae, frame_t, frame_t1, changed, classes, samples=samples)

    def _choose_colours(self, dataset: FrameDataset, train: Sequence[int]) -> Tensor:
        """Make the training episodes' commonest colours the model's classes; those of all indices, int64 [256]."""
        chosen, shares = commonest_indices(dataset, train, self._config.pairs.composite, self._config.model.num_colours)
        colours = self._palette(torch.arange(256, device=self._device)[None, None]).expand(-1, 3, -1, -1)
        self._vqvae.set_colours(colours[0, :, 0].T[torch.from_numpy(chosen).long()], torch.from_numpy(shares))
        return self._vqvae.classes(colours).flatten()

    def _pictures(self, pair: Pair) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures t and t+1, RGB [B, 3, 210, 160], and where they differ, bool [B, 210, 160]."""
        index_t, index_t1 = (torch.from_numpy(part).to(self._device) for part in pair)
        differ = index_t != index_t1
        frame_t, frame_t1 = (self._palette(index).expand(-1, 3, -1, -1) for index in (index_t, index_t1))
        # RGB screens have their channels last.
        return frame_t, frame_t1, differ if differ.ndim == 3 else differ.any(dim=-1)


def commonest_indices(
    dataset: FrameDataset, episode_ids: Sequence[int], composite: Composite, count: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Palette indices uint8 [≤ count] that most pixels of some episodes have, the commonest first, and their shares.

    The episodes are spread over all, for those recorded first may all be of one player. The shares float32 add up to 1.

    Raises `LapaError` for frames that are RGB themselves.
    """
    if not len(dataset.info.palette):
        raise LapaError(f"{dataset.name}: RGB frames have no palette; take --model.output tanh and --loss.kind mse.")
    counts = np.zeros(256, dtype=np.int64)
    for episode in episode_ids[:: -(-len(episode_ids) // COLOUR_EPISODES)]:
        counts += np.bincount(dataset.composites(episode, composite).ravel(), minlength=256)
    order = np.argsort(-counts, kind="stable")[:count]
    chosen = order[counts[order] > 0]
    return chosen.astype(np.uint8), (counts[chosen] / np.sum(counts[chosen])).astype(np.float32)


def build_loss(config: LossConfig) -> ReconstructionLoss:
    """The loss, with the networks that it looks through. Raises `LapaError` where a file of theirs is not fit."""
    agent = vgg = None
    if config.agent_weight and config.agent is not None:
        agent = AgentDistance(load_agent(open_artefact(config.agent, "agent")), (HEIGHT, WIDTH))
    if config.vgg_weight and config.vgg_weights is not None:
        vgg = VggDistance(config.vgg_weights)
    return ReconstructionLoss(config, agent, vgg)


def _chances(pairs: PairConfig) -> Chances | None:
    """None where all pairs are alike."""
    if pairs.balance == "none" and not pairs.leave_out_frozen:
        return None
    return partial(pair_chances, balance=pairs.balance, leave_out_frozen=pairs.leave_out_frozen)


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


def check_motion(dataset: FrameDataset, episode_ids: Sequence[int], composite: Composite) -> None:
    """Raise `LapaError` if nothing moves in any of the episodes: there is no action to be learnt from still pairs.

    Reads no further than the first pair that moves.
    """
    decoder = dataset.decoder(composite)
    for episode_id in episode_ids:
        count, first = dataset.num_steps(episode_id) + 1, np.empty((1, *dataset.info.screen_shape), np.uint8)
        decoder.decode(episode_id, 0, first)
        for start in range(1, count, MOTION_PICTURES):
            pictures = np.empty((min(MOTION_PICTURES, count - start), *first.shape[1:]), np.uint8)
            decoder.decode(episode_id, start, pictures)
            if (pictures != first).any():
                return
    raise LapaError(
        f"{dataset.name}: every pair of the training episodes is still, so there is nothing to learn codes of; record "
        "play in which something moves."
    )


def run(config: TrainVqvaeConfig) -> Artefact:
    """Train and write the vqvae artefact."""
    with stop_on_signal() as stop:
        return train(config, stop)


def check_data(config: TrainVqvaeConfig) -> tuple[FrameDataset, list[int], list[int]]:
    """The dataset, its training and its held-out episodes. Raises `LapaError` if they are not fit to be learnt from."""
    dataset = FrameDataset.open(config.frames)
    check_size(dataset)
    training, held_out, _ = named_parts(dataset.episode_ids, config.pairs.split, dataset.name)
    check_steps(dataset, training, held_out)
    check_motion(dataset, training, config.pairs.composite)
    return dataset, training, held_out


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
    write_png(folder / SAMPLES, sheet)


class _HeldOutPixels:
    """Pixel figures of the pairs of a split, which come in their order; SSIM of some of them."""

    def __init__(self, num_pairs: int) -> None:
        self._all, self._some = PixelMetrics(), PixelMetrics()
        self._stride, self._done = -(-num_pairs // NUM_SSIM_PAIRS), 0

    def update(self, predicted: Tensor, true: Tensor, changed: Tensor) -> None:
        """Count pictures uint8 [B, 3, H, W]; `changed` bool [B, H, W]."""
        chosen = slice(-self._done % self._stride, None, self._stride)
        self._all.update(predicted, true, changed)
        self._some.update(predicted[chosen], true[chosen], changed[chosen], with_ssim=True)
        self._done += len(true)

    def figures(self) -> Figures:
        """psnr_db, changed_psnr_db, ssim; not a number where there was nothing to measure."""
        measured = {
            "psnr_db": self._all.psnr(), "changed_psnr_db": self._all.changed_psnr(), "ssim": self._some.ssim()
        }  # fmt: skip
        return {name: _number(estimate.value) for name, estimate in measured.items()}


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
