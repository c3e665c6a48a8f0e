"""Each model overfits one batch and beats what is free: repeating the last picture, the last codes, the usual code."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from lapa_ray.models.colour import PaletteRgb
from lapa_ray.models.quantizer import QuantizerConfig
from lapa_ray.models.vqvae import Vqvae, VqvaeConfig
from lapa_ray.models.world_model import WorldModel, WorldModelConfig
from tests.support.pictures import grey_palette, wandering_square

LEARNABLE = QuantizerConfig(codebook_size=32)
EMA = QuantizerConfig(
    codebook_size=32, kind="ema", cosine=True, codebook_dim=8, kmeans_init=True, revive_below=0.1, ema_decay=0.9
)


@pytest.mark.parametrize("quantizer", [LEARNABLE, EMA], ids=["learnable", "ema"])
def test_the_vqvae_overfits_a_batch_beyond_copy_last(quantizer):
    """Squares that jump: the last picture is a bad guess, and only the codes can say where the next one is."""
    torch.manual_seed(0)
    pictures = PaletteRgb(grey_palette())(torch.from_numpy(wandering_square(5)))
    frame_t, frame_t1 = pictures[:-1], pictures[1:]
    model = Vqvae(VqvaeConfig(width=8, code_dim=16, quantizer=quantizer))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(200):
        output = model(frame_t, frame_t1)
        loss = F.mse_loss(model.picture(output), frame_t1) + output.quantizer_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    error = F.mse_loss(model.picture(model(frame_t, frame_t1)), frame_t1)
    mean_picture = frame_t1.mean(dim=0, keepdim=True).expand_as(frame_t1)
    assert error < 0.25 * F.mse_loss(frame_t, frame_t1)
    assert error < 0.6 * F.mse_loss(mean_picture, frame_t1)


def test_the_world_model_overfits_a_batch_beyond_copy_last_and_mode():
    """Next codes = codes turned by the action: neither the last codes nor the usual one tells them."""
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    before = torch.from_numpy(generator.integers(0, 8, (16, 35)))
    actions = torch.from_numpy(generator.integers(0, 3, 16))
    after = (before + actions[:, None] + 1) % 8
    model = WorldModel(3, 8, WorldModelConfig(embedding=16, hidden=32))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        loss = F.cross_entropy(model(before, actions).flatten(0, 1), after.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    accuracy = float((model(before, actions).argmax(dim=-1) == after).float().mean())
    copy_last = float((before == after).float().mean())
    mode = float((after == after.mode(dim=0).values).float().mean())
    assert max(copy_last, mode) < 0.5
    assert accuracy > 0.95
