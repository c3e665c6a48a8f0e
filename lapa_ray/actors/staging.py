"""Between host and device: batches on their way to a network, and results on their way back.

On CUDA a batch is one copy out of pinned memory on a stream of its own, beside the update under way, and nothing waits;
on a CPU it is one copy within memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lapa_ray.models.td_loss import Transitions
from lapa_ray.replay.chunk import Batch

NUM_SLOTS = 2
"""Pinned buffers on CUDA: one may be read by the copy engine while the next is filled."""
ALIGNMENT = 16


@dataclass(frozen=True)
class _Layout:
    """Where the columns of a batch lie in one run of bytes: the small ones, padded, then the windows, if sent along."""

    size: int
    windows: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return self._start_of_windows + math.prod(self.windows)

    @property
    def _start_of_windows(self) -> int:
        return -(-20 * self.size // ALIGNMENT) * ALIGNMENT

    def columns(self, flat: Tensor) -> tuple[Tensor, ...]:
        """Views of `flat` uint8 [num_bytes]: actions, rewards, discounts, weights, windows."""
        size, start = self.size, self._start_of_windows
        actions = flat[: 8 * size].view(torch.int64)
        rewards, discounts, weights = flat[8 * size : 20 * size].view(torch.float32).view(3, size)
        return actions, rewards, discounts, weights, flat[start:].view(self.windows)


class _Slot:
    """A buffer of the host that holds one batch."""

    def __init__(self, layout: _Layout, *, pinned: bool) -> None:
        self.layout = layout
        self.buffer = torch.empty(layout.num_bytes, dtype=torch.uint8, pin_memory=pinned)
        self.columns = layout.columns(self.buffer)
        self.copied: torch.cuda.Event | None = None

    def fill(self, columns: tuple[NDArray[Any], ...]) -> None:
        """Copy `columns` in, once what was there has left."""
        if self.copied is not None:
            self.copied.synchronize()
        for place, column in zip(self.columns, columns, strict=False):
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
        """`batch` on the device; on a CPU until the next one is sent. Windows that are a tensor are there already."""
        windows: NDArray[np.uint8] | Tensor = batch.windows
        columns: tuple[NDArray[Any], ...] = (batch.actions, batch.rewards, batch.discounts, batch.weights)
        if isinstance(windows, Tensor):
            actions, rewards, discounts, weights, _ = self._sent(columns, _Layout(len(columns[0]), (0,)))
            return Transitions(windows, actions, rewards, discounts, weights, batch.n_step)
        layout = _Layout(len(windows), windows.shape)
        actions, rewards, discounts, weights, sent = self._sent((*columns, windows), layout)
        return Transitions(sent, actions, rewards, discounts, weights, batch.n_step)

    def _sent(self, columns: tuple[NDArray[Any], ...], layout: _Layout) -> tuple[Tensor, ...]:
        slot = self._next_slot(layout)
        slot.fill(columns)
        return slot.columns if self._device.type == "cpu" else layout.columns(self._copied(slot))

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
