"""The VQ-VAE as a task of the training loop: pairs in, loss out, and the figures of a validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lapa_ray.core.artefact import open_artefact
from lapa_ray.core.errors import LapaError
from lapa_ray.core.metric_log import MetricLog
from lapa_ray.core.seeds import seed_for
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.splits import named_parts
from lapa_ray.dataset.stream import Draw
from lapa_ray.evaluation.codes import CodeStatistics
from lapa_ray.evaluation.one_step_control import CONTROL_FIGURES, OneStepControl
from lapa_ray.evaluation.pixels import to_8bit
from lapa_ray.models.colour import PaletteRgb
from lapa_ray.models.perceptual import AgentDistance, VggDistance
from lapa_ray.models.q_network import load_agent
from lapa_ray.models.reconstruction_loss import LossConfig, ReconstructionLoss, Target, look_up
from lapa_ray.models.vqvae import HEIGHT, WIDTH, Vqvae, VqvaeOutput
from lapa_ray.stages.fit_schedule import batch_size
from lapa_ray.stages.fit_share import Share
from lapa_ray.stages.fit_task import Figures, Turn
from lapa_ray.stages.held_out_pixels import HeldOutPixels, number_of
from lapa_ray.stages.held_out_sprites import HeldOutSprites
from lapa_ray.stages.pair_sources import Chances, Pair, ValidationPairs, training_pairs
from lapa_ray.stages.pair_weights import pair_chances
from lapa_ray.stages.vqvae_colours import commonest_indices
from lapa_ray.stages.vqvae_config import PairConfig, TrainVqvaeConfig
from lapa_ray.stages.vqvae_data import check_size
from lapa_ray.stages.vqvae_observer import CollapseWatch, VqvaeObserver

VALIDATION_BATCH = 64
VALIDATION_FIGURES = (
    *("loss", "psnr_db", "copy_last_psnr_db", "changed_psnr_db", "copy_last_changed_psnr_db", "ssim"),
    *("copy_last_ssim", "perplexity", "codes_used"),
    *CONTROL_FIGURES,
)


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
        self._copy_last: HeldOutPixels | None = None
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
            self.model.parameters(), lr=config.learning_rate, fused=device.type != "mps"
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

    def state(self) -> dict[str, Any]:
        """How often codes were used in the period whose end tells a collapse."""
        return {"collapse": self._collapse.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """See `state`; a checkpoint without it leaves that period unjudged."""
        self._collapse.load_state(state.get("collapse", {}))

    @torch.inference_mode()
    def validate(self, tick: Callable[[float], None]) -> Figures:
        """Loss, PSNR beside copy-last, use and effect of the codes, over the whole validation split; SSIM, and which
        sprites are shown, of some of its pairs.
        """
        assert self._held_out is not None
        count = self._held_out.num_items
        pixels, copy_last = HeldOutPixels(count), HeldOutPixels(count) if self._copy_last is None else None
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
        values |= {"perplexity": number_of(use.perplexity), "codes_used": use.codes_used}
        sprites = self._sprites.figures(self._vqvae, lambda more: tick((count + more) / in_all))
        tick(1.0)
        return {"loss": total / count} | values | control.figures() | sprites

    def _parts(self, output: VqvaeOutput, target: Target) -> dict[str, Tensor]:
        """What adds up to the loss."""
        parts: dict[str, Tensor] = self._criterion(self._vqvae, output, target)
        return parts | {"quantizer_loss": output.quantizer_loss}

    def _target(self, pair: Pair, *, samples: bool = False) -> Target:
        """What a reconstruction is to be; classes are looked up by index, which is faster than by colour."""
        index_t, index_t1 = self._on_device(pair)
        frame_t, frame_t1, changed = self._shown(index_t, index_t1)
        classes = None if self._classes is None else look_up(self._classes, index_t1.int())
        return self._criterion.target(self._vqvae, frame_t, frame_t1, changed, classes, samples=samples)

    def _choose_colours(self, dataset: FrameDataset, train: Sequence[int]) -> Tensor:
        """Make the training episodes' commonest colours the model's classes; those of all indices, int64 [256]."""
        chosen, shares = commonest_indices(dataset, train, self._config.pairs.composite, self._config.model.num_colours)
        colours = self._palette(torch.arange(256, device=self._device)[None, None]).expand(-1, 3, -1, -1)
        self._vqvae.set_colours(colours[0, :, 0].T[torch.from_numpy(chosen).long()], torch.from_numpy(shares))
        return self._vqvae.classes(colours).flatten()

    def _pictures(self, pair: Pair) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures t and t+1, RGB [B, 3, 210, 160], and where they differ, bool [B, 210, 160]."""
        return self._shown(*self._on_device(pair))

    def _on_device(self, pair: Pair) -> tuple[Tensor, Tensor]:
        index_t, index_t1 = (torch.from_numpy(part).to(self._device) for part in pair)
        return index_t, index_t1

    def _shown(self, index_t: Tensor, index_t1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        differ = index_t != index_t1
        frame_t, frame_t1 = (self._palette(index).expand(-1, 3, -1, -1) for index in (index_t, index_t1))
        # RGB screens have their channels last.
        return frame_t, frame_t1, differ if differ.ndim == 3 else differ.any(dim=-1)


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
