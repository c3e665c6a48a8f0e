"""bfloat16 on the CPU, in processes of their own: oneDNN decides once a process what it may use."""

import os
import subprocess
import sys

TRY = """
import torch
from lapa_ray.core.errors import LapaError
from lapa_ray.models.bfloat16 import require_bfloat16, works
try:
    require_bfloat16(torch.device("cpu"))
except LapaError as error:
    assert not works()
    raise SystemExit(str(error))
assert works()
"""


def tried(**environment: str) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if name != "ONEDNN_MAX_CPU_ISA"}
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", TRY]
    return subprocess.run(command, env=kept | paths | environment, capture_output=True, text=True)


def test_it_is_made_to_work_on_any_cpu():
    """Also on virtual machines that announce AMX and refuse it."""
    outcome = tried()
    assert outcome.returncode == 0, outcome.stderr


def test_where_it_is_too_late_the_way_out_is_told():
    """Asked for AMX by name, it either is there or the option and the variable are named."""
    outcome = tried(ONEDNN_MAX_CPU_ISA="AVX512_CORE_AMX")
    assert outcome.returncode == 0 or outcome.stderr.strip() == (
        "--resources.precision bfloat16: this CPU refuses it; start again with the environment variable "
        "ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16, or give float32."
    )
