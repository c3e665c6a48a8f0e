"""Between host and device: batches on their way to a network, and results on their way back.

On CUDA a batch is one copy out of pinned memory on a stream of its own, beside the update under way, and nothing waits;
on a CPU it is one copy within memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lapa_ray.models.td_loss import Transitions
from lapa_ray.replay.chunk import Batch

NUM_SLOTS = 2
"""Pinned buffers on CUDA: one may be read by the copy engine while the next is filled."""
ALIGNMENT = 8


@dataclass(frozen=True)
class _Layout:
    """Where the columns of a batch lie in one run of bytes: the windows, padded, then the others."""

    shape: tuple[int, ...]
    n_step: int

    @property
    def num_bytes(self) -> int:
        return self._end_of_windows + 20 * self.shape[0]

    @property
    def _end_of_windows(self) -> int:
        return -(-int(np.prod(self.shape)) // ALIGNMENT) * ALIGNMENT

    def transitions(self, flat: Tensor) -> Transitions:
        """Views of `flat` uint8 [num_bytes]."""
        size, end = self.shape[0], self._end_of_windows
        windows = flat[: int(np.prod(self.shape))].view(self.shape)
        actions = flat[end : end + 8 * size].view(torch.int64)
        rewards, discounts, weights = flat[end + 8 * size :].view(torch.float32).view(3, size)
        return Transitions(windows, actions, rewards, discounts, weights, self.n_step)


class _Slot:
    """A buffer of the host that holds one batch."""

    def __init__(self, layout: _Layout, *, pinned: bool) -> None:
        self.layout = layout
        self.buffer = torch.empty(layout.num_bytes, dtype=torch.uint8, pin_memory=pinned)
        self.transitions = layout.transitions(self.buffer)
        self.copied: torch.cuda.Event | None = None

    def fill(self, batch: Batch) -> None:
        """Copy `batch` in, once what was there has left."""
        if self.copied is not None:
            self.copied.synchronize()
        columns = (batch.windows, batch.actions, batch.rewards, batch.discounts, batch.weights)
        for place, column in zip(self.transitions.columns, columns, strict=True):
            place.numpy()[...] = column


class Staging:
    """Brings batches to `device`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._is_cuda = device.type == "cuda"
        self._slots: list[_Slot] = []
        self._num_sent = 0
        self._stream = torch.cuda.Stream(device) if self._is_cuda else None

    def send(self, batch: Batch) -> Transitions:
        """`batch` on the device; on a CPU until the next one is sent."""
        slot = self._next_slot(_Layout(batch.windows.shape, batch.n_step))
        slot.fill(batch)
        if self._device.type == "cpu":
            return slot.transitions
        return slot.layout.transitions(self._copied(slot))

    def _next_slot(self, layout: _Layout) -> _Slot:
        if not self._slots or self._slots[0].layout != layout:
            count = NUM_SLOTS if self._is_cuda else 1
            self._slots = [_Slot(layout, pinned=self._is_cuda) for _ in range(count)]
        self._num_sent += 1
        return self._slots[self._num_sent % len(self._slots)]

    def _copied(self, slot: _Slot) -> Tensor:
        if self._stream is None:
            return slot.buffer.to(self._device)
        with torch.cuda.stream(self._stream):
            flat = slot.buffer.to(self._device, non_blocking=True)
            slot.copied = self._stream.record_event()
        main = torch.cuda.current_stream(self._device)
        main.wait_stream(self._stream)
        flat.record_stream(main)  # its memory must not be given away before the update has read it
        return flat


class HostCopy:
    """A tensor on its way to the host; on CUDA it is copied into pinned memory without waiting."""

    def __init__(self, tensor: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if tensor.device.type != "cuda":
            self._host = tensor.cpu()
            return
        self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._host.copy_(tensor, non_blocking=True)
        self._event = torch.cuda.current_stream(tensor.device).record_event()

    def wait(self) -> NDArray[np.float32]:
        """The numbers, once they have arrived."""
        if self._event is not None:
            self._event.synchronize()
        array: NDArray[np.float32] = self._host.numpy()
        return array
