import subprocess
import sys

LAYERS = """
import torch
from lapa_ray.models.device import resolve_device
device = resolve_device("cpu")
layers = torch.nn.Sequential(torch.nn.Conv2d(8, 32, 8, 4), torch.nn.Flatten(), torch.nn.Linear(12800, 512))
obs = torch.rand(32, 8, 84, 84)
for _ in range(3):
    with torch.autocast(device.type, torch.bfloat16):
        loss = layers(obs).float().square().mean()
    loss.backward()
assert torch.isfinite(loss)
"""


def test_bfloat16_layers_run_on_this_cpu():
    """In a process of their own: where AMX is announced but denied, they would end it (SIGILL)."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", LAYERS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
