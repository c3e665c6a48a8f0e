"""The sides of the VQ-VAE benchmark: ours, a plain PyTorch loop on PNG files, the network alone.

All train the same network with the same batch and loss on the same pictures, and look at the loss after each update.
Adam is PyTorch's default in the loops here, fused in ours. Times are taken at the ends of updates; the first few of a
round do not count.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import mean

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import _png_loader
from lapa_ray.core.config import RayConfig, WandbConfig
from lapa_ray.models.device import resolve_device
from lapa_ray.models.vqvae import Vqvae, VqvaeConfig
from lapa_ray.stages.fit_config import FitResources, TrainingConfig
from lapa_ray.stages.fit_loop import Fit
from lapa_ray.stages.fit_share import Share
from lapa_ray.stages.vqvae_config import PairConfig, TrainVqvaeConfig
from lapa_ray.stages.vqvae_task import VqvaeTask

BATCH_SIZE, LEARNING_RATE, NUM_THREADS, WARM_UP = 32, 3e-4, 2, 5
NEVER = 10**9
Batches = Iterator[tuple[Tensor, Tensor]]


def config_of(
    frames: Path, out: Path, width: int, num_workers: int = 0, num_updates: int = NEVER, *, compiles: bool = False
) -> TrainVqvaeConfig:
    """As the source trains, but for the width; pairs of last frames; validated after the last update alone."""
    training = TrainingConfig(
        num_epochs=NEVER, max_updates=num_updates, batch_size=BATCH_SIZE, validation_period_epochs=NEVER
    )
    return TrainVqvaeConfig(
        frames=frames,
        out=out,
        pairs=PairConfig(composite="last"),
        model=VqvaeConfig(width=width),
        learning_rate=LEARNING_RATE,
        training=training,
        resources=FitResources(num_workers=num_workers, cpus_per_worker=NUM_THREADS, compile=compiles),
        wandb=WandbConfig(mode="disabled"),
        ray=RayConfig(num_cpus=2 * NUM_THREADS),
    )


def samples_per_s(times: list[float]) -> float:
    """Of the times at which updates ended, the first few left out."""
    timed = times[WARM_UP - 1 :]
    return BATCH_SIZE * (len(timed) - 1) / (timed[-1] - timed[0])


def seconds_per_update(times: list[float]) -> float:
    """The mean: what comes now and then, such as a row of the log, counts."""
    return mean(after - before for before, after in pairwise(times[WARM_UP - 1 :]))


class Ours:
    """`train-vqvae` in this process; goes on from round to round."""

    def __init__(self, config: TrainVqvaeConfig) -> None:
        config.out.mkdir(parents=True)
        task = VqvaeTask(config, Share(), resolve_device(config.resources.device))
        self._fit = Fit("benchmark", config, task, config.out, Share())

    def times(self, num_updates: int) -> list[float]:
        """When each of so many updates ended, after the warm-up's."""
        times: list[float] = []
        last = self._fit.update + WARM_UP + num_updates
        self._fit(lambda: self._fit.update >= last, lambda _update, _note: times.append(time.perf_counter()))
        return times


class PlainVqvae(nn.Module):
    """The layers of `Vqvae` in PyTorch's own layout, as a textbook would run them."""

    def __init__(self, config: VqvaeConfig) -> None:
        super().__init__()
        model = Vqvae(config).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.encoder, self.quantizer = model.encoder, model.quantizer
        self.conditioning, self.decoder = model.conditioning, model.decoder

    def forward(self, frame_t: Tensor, frame_t1: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction float [B, 3, 210, 160] in [−1, 1], and the quantiser's loss."""
        grid = self.encoder(torch.cat([frame_t, frame_t1], dim=1))
        quantised, _, loss = self.quantizer(grid.flatten(2).transpose(1, 2).contiguous())
        vectors = quantised.transpose(1, 2).unflatten(2, grid.shape[2:]).contiguous()
        return torch.tanh(self.decoder(vectors, self.conditioning, None)), loss


class PlainLoop:
    """A loop as a textbook writes it, on RGB pictures uint8 [B, 210, 160, 3] as `batches` give them."""

    def __init__(self, batches: Batches, width: int, device: torch.device, *, channels_last: bool) -> None:
        """With `channels_last` the network is ours itself, which keeps its channels innermost."""
        self._batches, self._device, self._channels_last = batches, device, channels_last
        config = VqvaeConfig(width=width)
        self.model: nn.Module = (Vqvae(config) if channels_last else PlainVqvae(config)).to(device).train()
        self._optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE)

    def times(self, num_updates: int) -> list[float]:
        """When each of so many updates ended, after the warm-up's."""
        times = []
        for _ in range(WARM_UP + num_updates):
            self._update(*(self._seen(part) for part in next(self._batches)))
            times.append(time.perf_counter())
        return times

    def _seen(self, pictures: Tensor) -> Tensor:
        rgb = pictures.to(self._device).permute(0, 3, 1, 2)
        return (rgb if self._channels_last else rgb.contiguous()).float() / 127.5 - 1

    def _update(self, frame_t: Tensor, frame_t1: Tensor) -> float:
        output = self.model(frame_t, frame_t1)
        if isinstance(self.model, Vqvae):
            picture, quantizer_loss = self.model.picture(output), output.quantizer_loss
        else:
            picture, quantizer_loss = output
        loss = F.mse_loss(picture, frame_t1) + quantizer_loss
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        return float(loss.detach())


class MatrixProducts:
    """Products of square matrices in float32: about the most work a second that this machine does in PyTorch."""

    def __init__(self, device: torch.device) -> None:
        self._size = product_size(device)
        self._one, self._other = (torch.randn(self._size, self._size, device=device) for _ in range(2))

    def times(self, num_updates: int) -> list[float]:
        """When each of so many products ended, after the warm-up's."""
        times = []
        for _ in range(WARM_UP + num_updates):
            float((self._one @ self._other)[0, 0])  # waits for a GPU
            times.append(time.perf_counter())
        return times


def product_size(device: torch.device) -> int:
    """Rows of the matrices."""
    return 2048 if device.type == "cpu" else 8192


def flops_per_sample(width: int) -> float:
    """Floating-point operations of a pair's convolutions and products, forward and backward, as PyTorch counts them."""
    model, pairs = Vqvae(VqvaeConfig(width=width)).train(), torch.rand(2, 2, 3, 210, 160)
    with FlopCounterMode(display=False) as counter:
        output = model(*pairs)
        (F.mse_loss(model.picture(output), pairs[1]) + output.quantizer_loss).backward()
    return counter.get_total_flops() / 2


def one_batch() -> Batches:
    """The same noise again and again: no data to wait for."""
    generator = np.random.default_rng(0)
    one, other = (
        torch.from_numpy(generator.integers(0, 256, (BATCH_SIZE, 210, 160, 3), dtype=np.uint8)) for _ in range(2)
    )
    while True:
        yield one, other


def png_batches(pairs: _png_loader.PngPairs) -> Batches:
    """Shuffled, by torch's DataLoader."""
    return _png_loader.batches(pairs, BATCH_SIZE)
