"""The peer on Ray's own engine: `ray.data.read_parquet` → `iter_torch_batches`, of the same shards.

It is asked for less than the stream gives: single pictures in the order of the files, neither paired nor shuffled.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray.data
import torch
from ray.data.collate_fn import ArrowBatchCollateFn
from torch import Tensor

from lapa_ray.actors.cluster import ray_session
from lapa_ray.core.config import RayConfig

NUM_CPUS, OBJECT_STORE_MB = 2, 2_000


@contextmanager
def session() -> Iterator[None]:
    """A Ray for `batches`, quiet."""
    with ray_session(RayConfig(num_cpus=NUM_CPUS, object_store_mb=OBJECT_STORE_MB)):
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield


def batches(folder: Path, batch_size: int) -> Iterator[Tensor]:
    """Batches of screens uint8 [B, bytes of a screen], one pass over the shards."""
    shards = ray.data.read_parquet(str(folder), file_extensions=["parquet"]).select_columns(["screen"])
    return iter(shards.iter_torch_batches(batch_size=batch_size, collate_fn=_Pixels()))


class _Pixels(ArrowBatchCollateFn):
    """A column of fixed-size binary as one tensor, with one copy for all."""

    def __call__(self, batch: pa.Table) -> Tensor:
        screens = batch.column("screen").combine_chunks()
        size = screens.type.byte_width
        pixels = np.frombuffer(screens.buffers()[1], np.uint8, len(screens) * size, screens.offset * size)
        return torch.from_numpy(pixels.reshape(len(screens), size).copy())
