"""Whether bfloat16 can be computed with on this machine, and what has to be set that it can.

Some virtual machines say that their CPU has AMX and then refuse it: oneDNN, which believes them, "could not create a
primitive" for any bfloat16 layer. Told to do without AMX it works. It reads that but once, at its first layer.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812

from lapa_ray.core.errors import LapaError

ISA, WITHOUT_AMX = "ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16"
PROBE = "from lapa_ray.models.bfloat16 import works; raise SystemExit(not works())"


def require_bfloat16(device: torch.device) -> None:
    """Set up what bfloat16 needs on `device`; where AMX is announced, a process of its own tries it first (some 3 s).

    Raises `LapaError` where it cannot work.
    """
    if device.type != "cpu":
        return
    if ISA not in os.environ and _announces_amx() and not _works_elsewhere():
        os.environ[ISA] = WITHOUT_AMX
    if not works():
        raise LapaError(
            "--resources.precision bfloat16: this CPU refuses it; start again with the environment variable "
            f"{ISA}={WITHOUT_AMX}, or give float32."
        )


def works() -> bool:
    """Whether a layer can be computed in bfloat16 on the CPU, in this process."""
    inputs, weight = torch.ones(4, 392, dtype=torch.bfloat16), torch.ones(32, 392, dtype=torch.bfloat16)
    try:
        F.linear(inputs, weight)
    except RuntimeError:
        return False
    return True


def _announces_amx() -> bool:
    cpu = Path("/proc/cpuinfo")
    return cpu.exists() and "amx_bf16" in cpu.read_text(encoding="utf-8")


def _works_elsewhere() -> bool:
    """Whether it works in a process that has not looked at the CPU yet."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True).returncode == 0
