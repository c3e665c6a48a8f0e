"""A mirror of the replay's ring of frames on the learner's device: each frame crosses once, a sample is only indices.

Without it a frame is sent anew for every transition that it is part of, 8 samples an insert and a dozen frames each.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from torch import Tensor

from lapa_ray.actors.cluster import num_gpus
from lapa_ray.actors.learner import LearnerResources, ServerSource
from lapa_ray.core.config import Device
from lapa_ray.core.errors import LapaError
from lapa_ray.models.device import resolve_device
from lapa_ray.replay.chunk import Batch, FrameBlock


class FrameMirror:
    """The last `capacity` frames of `shape`, on `device`, in the slots that they have in the ring."""

    def __init__(self, capacity: int, shape: tuple[int, ...], device: torch.device) -> None:
        self._device = device
        try:
            self._frames = torch.empty((capacity, *shape), dtype=torch.uint8, device=device)
        except (RuntimeError, MemoryError) as error:  # torch's own fault for too little memory is a RuntimeError
            raise LapaError(
                f"--resources.mirror: the replay's frames take {capacity * math.prod(shape) / 1e9:,.1f} GB, more than "
                f"the learner's {device.type} has left; use off."
            ) from error
        self.next_id = 0

    def append(self, block: FrameBlock) -> None:
        """Take in the frames of `block`. Raises `ValueError` if it is not the one that comes next."""
        if block.since_id != self.next_id:
            raise ValueError(f"frames from {block.since_id} on, but the mirror has those up to {self.next_id}")
        slot, count = block.first_id % len(self._frames), len(block.frames)
        at_end = min(count, len(self._frames) - slot)
        frames = self._sent(block.frames)
        self._frames[slot : slot + at_end].copy_(frames[:at_end], non_blocking=True)
        self._frames[: count - at_end].copy_(frames[at_end:], non_blocking=True)
        self.next_id = block.end_id

    def windows(self, slots: NDArray[np.int32]) -> Tensor:
        """Frames uint8 [*slots.shape, height, width] on the device."""
        chosen = self._frames.index_select(0, self._sent(slots.ravel()).to(self._device, non_blocking=True))
        return chosen.view(*slots.shape, *self._frames.shape[1:])

    def _sent(self, array: NDArray[Any]) -> Tensor:
        """A copy of `array`; in pinned memory where the host need not wait for the device to read it."""
        tensor = torch.tensor(array)
        return tensor.pin_memory() if self._device.type == "cuda" else tensor


class MirrorSource(ServerSource):
    """Batches from the replay server with windows as tensors on the learner's device. Each learner has its own."""

    def __init__(self, server: ray.actor.ActorHandle, device: Device, *, wants_td_errors: bool) -> None:
        """The device is looked for where the first batch is asked for: in the learner's process."""
        super().__init__(server, wants_td_errors=wants_td_errors)
        self._device = device
        self._mirror: FrameMirror | None = None
        self._name = uuid.uuid4().hex

    def batches(self, num_updates_done: int, count: int) -> Iterator[Batch]:
        """Exactly `count` batches."""
        mirror = self._caught_up()

        def ask(number: int, many: int) -> ray.ObjectRef:
            return self._server.sample_slots_many.remote(number, many, self._name)

        for drawn, block in self._answers(ask, num_updates_done, count):
            mirror.append(block)
            yield drawn.with_windows(mirror.windows(drawn.slots))

    def _caught_up(self) -> FrameMirror:
        """The mirror, with all frames that the server has; in blocks, since at first that is the whole ring."""
        while True:
            next_id = self._mirror.next_id if self._mirror else 0
            block: FrameBlock = ray.get(self._server.frames_since.remote(self._name, next_id))
            if self._mirror is None:
                self._mirror = FrameMirror(block.capacity, block.frames.shape[1:], resolve_device(self._device))
            if not len(block.frames):
                return self._mirror
            self._mirror.append(block)


def batch_source(server: Any, resources: LearnerResources, *, wants_td_errors: bool) -> ServerSource:
    """Where a learner with `resources` takes its batches from."""
    if resources.mirror == "on" or (resources.mirror == "auto" and num_gpus(resources.device) > 0):
        return MirrorSource(server, resources.device, wants_td_errors=wants_td_errors)
    return ServerSource(server, wants_td_errors=wants_td_errors)
