"""Which device a network runs on."""

from __future__ import annotations

import os
import shutil

import torch

from lapa_ray.core.config import Device
from lapa_ray.core.errors import LapaError

CPU_INSTRUCTIONS = "AVX512_CORE_BF16"
"""What oneDNN may use at most: no AMX. Its tiles want a leave of the kernel's that a virtual machine, or the small
signal stacks of Ray's workers, can deny; a bfloat16 layer then ends the process by SIGILL (docs/decisions.md)."""


def resolve_device(name: Device, option: str = "--resources.device") -> torch.device:
    """The device called `name`; auto is CUDA, else MPS, else CPU.

    Raises `LapaError` where there is none, which names the `option` that asked for it.
    """
    bound_cpu_instructions()
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, is_there in present.items() if is_there))
    if not present[name]:
        raise LapaError(f"{option} {name}: this machine has none that PyTorch can use; give auto or cpu.")
    return torch.device(name)


def bound_cpu_instructions() -> None:
    """For every process that trains, before its first layer runs: oneDNN reads it then."""
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", CPU_INSTRUCTIONS)


def check_compiler() -> None:
    """Raise `LapaError` where torch.compile would fail at the first update."""
    compilers = [os.environ.get("CXX", "c++"), "c++", "g++", "clang++"]
    if not any(shutil.which(compiler) for compiler in compilers):
        raise LapaError("--resources.compile: torch.compile needs a C++ compiler; install one, or leave it out.")
