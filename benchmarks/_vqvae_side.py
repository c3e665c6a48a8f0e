"""One side of the VQ-VAE benchmark as a process: `python -m benchmarks._vqvae_side NAME FOLDER WIDTH`.

The sides of ours are set up as the command line and the training loop set themselves up: how OpenMP's threads wait,
what oneDNN may use, what the C library keeps of freed memory. The plain loops have PyTorch's own defaults.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._side_process import TimesOf, serve

if TYPE_CHECKING:
    import torch

PLAIN = ("plain", "plain_channels_last")


def main() -> int:
    """Answer with the times of the side that is named."""
    name, folder, width = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    serve(plain_side(name, folder, width) if name in PLAIN else our_side(name, folder, width))
    return 0


def plain_side(name: str, folder: Path, width: int) -> TimesOf:
    """A plain loop over the PNG files in `folder`; sets nothing for its process."""
    from benchmarks._png_loader import PngPairs
    from benchmarks._vqvae_sides import PlainLoop, png_batches
    from lapa_ray.dataset.reader import FrameDataset

    pngs = PngPairs(folder / "png", FrameDataset.open(folder / "steps"), "last")
    channels_last = name == "plain_channels_last"
    return PlainLoop(png_batches(pngs), width, _fastest_device(), channels_last=channels_last).times


def our_side(name: str, folder: Path, width: int) -> TimesOf:
    """Our loop, or what is set up like it: the network alone, a bare loop over the same batches, matrix products."""
    from lapa_ray.cli import prepare_libraries

    prepare_libraries()  # OpenMP reads it when torch is loaded
    from benchmarks import _vqvae_loops, _vqvae_sides
    from lapa_ray.core.allocator import keep_freed_memory
    from lapa_ray.models.device import resolve_device

    device = resolve_device("auto")
    if device.type == "cpu" and name in {"floor", "bare"}:
        keep_freed_memory()  # our loop does so itself
    if name == "products":
        return _vqvae_sides.MatrixProducts(device).times
    if name == "floor":
        return _vqvae_sides.PlainLoop(_vqvae_sides.one_batch(), width, device, channels_last=True).times
    if name in _vqvae_loops.LOOPS:
        return _vqvae_loops.FromAnew(name, folder, width).times
    config = _vqvae_sides.config_of(folder / "steps", folder / name, width, compiles=name == "ours_compiled")
    return _vqvae_sides.Ours(config).times


def _fastest_device() -> torch.device:
    """Without `resolve_device`, which bounds what oneDNN may use."""
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return torch.device(next(kind for kind, is_there in there.items() if is_there))


if __name__ == "__main__":
    sys.exit(main())
