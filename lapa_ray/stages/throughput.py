"""Throughput of a training: samples a second, and on a GPU its memory and how busy it is."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

QUERY_TIMEOUT_S = 10.0


class Throughput:
    """Times a training's updates, without what lies between them (validations, checkpoints, pictures)."""

    def __init__(self, device: torch.device, samples_per_update: int) -> None:
        self._device, self._samples = device, samples_per_update
        self._num_updates, self._seconds = 0, 0.0

    @contextmanager
    def update(self) -> Iterator[None]:
        """Times one update."""
        start = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - start
        self._num_updates += 1

    def take(self) -> dict[str, float]:
        """Figures since the last call: samples_per_s; on CUDA gpu_memory_gb (the most) and gpu_utilisation, a share."""
        figures = {"samples_per_s": self._num_updates * self._samples / max(self._seconds, 1e-9)}
        self._num_updates, self._seconds = 0, 0.0
        if self._device.type == "cuda":
            figures["gpu_memory_gb"] = torch.cuda.max_memory_allocated(self._device) / 1e9
            figures["gpu_utilisation"] = _gpu_utilisation(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        return figures


def _gpu_utilisation(device: torch.device) -> float:
    """Share of the last moment in which the GPU was busy, of all its processes; not a number where nothing tells.

    By nvidia-smi, which takes tens of ms: torch's own question needs a package that is no dependency of ours.
    """
    if shutil.which("nvidia-smi") is None:
        return float("nan")
    # By its UUID: nvidia-smi numbers the machine's GPUs, torch those that it is shown.
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    query = ["nvidia-smi", f"--id={uuid}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=QUERY_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return float("nan")
    return share_of(done.stdout)


def share_of(percent: str) -> float:
    """A share of what nvidia-smi says in %; not a number for anything else, such as `[N/A]` of a GPU in parts."""
    try:
        return float(percent.strip()) / 100
    except ValueError:
        return float("nan")
