"""Held-out sprites: how many of the things that RAM knows of a VQ-VAE's pictures show, at each validation.

PSNR hardly notices a player that is a blur of the wrong colour. Of games whose looks are not known, and of frames
without RAM, nothing is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lapa_ray.core.pictures import Composite, Screen
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.envs.entities import entities_of
from lapa_ray.envs.looks import looks_of
from lapa_ray.evaluation.entity_figures import COPY_LAST, EntityMeter
from lapa_ray.evaluation.pixels import to_8bit
from lapa_ray.evaluation.rollouts import spread
from lapa_ray.evaluation.sprite_recall import RECALL
from lapa_ray.models.colour import PaletteRgb
from lapa_ray.models.vqvae import Vqvae

NUM_PAIRS = 512
"""Held-out pairs, evenly spaced and the same each time."""
BATCH = 64


class HeldOutSprites:
    """Measures a model on the chosen pairs; each episode is read when it is its turn, and let go."""

    def __init__(
        self, dataset: FrameDataset, held_out: Sequence[int], composite: Composite, palette: PaletteRgb
    ) -> None:
        """`palette`: to what the model sees, on its device; of grey no sprite can be told."""
        self._dataset, self._composite, self._palette = dataset, composite, palette
        self._colours = dataset.info.palette if palette.has_colours else np.empty((0, 3), np.uint8)
        self._steps = spread({episode: dataset.num_steps(episode) for episode in held_out}, NUM_PAIRS)

    @property
    def num_pairs(self) -> int:
        """Of all episodes."""
        return sum(map(len, self._steps.values()))

    def figures(self, model: Vqvae, tick: Callable[[int], None] = lambda _done: None) -> dict[str, float]:
        """Share of each sprite's appearances that `model`, in eval mode, shows within 2 px of the true picture's place.

        Beside each stands copy-last's. `tick` hears how many pairs were looked at.
        """
        done = 0
        meter = EntityMeter(self._dataset.info.game, self._colours)
        for episode, steps in self._steps.items():
            composites = self._dataset.composites(episode, self._composite)
            meter.begin(episode, composites, self._dataset.steps(episode).ram)
            for start in range(0, len(steps), BATCH):
                chosen = steps[start : start + BATCH]
                meter.update(chosen, self._made(model, composites, chosen))
                done += len(chosen)
                tick(done)
        told: dict[str, float] = {}
        for figure in meter.group(seed=0, data="").figures:
            if figure.name.endswith(RECALL) and not figure.name.endswith(f"_moved{RECALL}"):
                told[figure.name] = _number(figure.estimate.value)
                told[f"copy_last_{figure.name}"] = _number(figure.baselines[COPY_LAST].value)
        return told

    def _made(self, model: Vqvae, composites: Screen, steps: NDArray[np.int64]) -> Tensor:
        device = self._palette.table.device
        frames = [self._palette(torch.from_numpy(composites[at]).to(device)) for at in (steps, steps + 1)]
        frame_t, frame_t1 = (frame.expand(-1, 3, -1, -1) for frame in frames)
        return to_8bit(model.picture(model(frame_t, frame_t1))).cpu()


def recalls_of(dataset: FrameDataset) -> list[str]:
    """Names of the figures that there are of pictures in colour; none where RAM, palette or the game's looks miss."""
    looks, episode = looks_of(dataset.info.game), dataset.episode_ids[0]
    ram = dataset.steps(episode).ram
    if looks is None or ram is None or not len(dataset.info.palette):
        return []
    entities = entities_of(dataset.info.game).read(ram[:1])
    names = dict.fromkeys(sprite.name for sprite in looks.sprites(entities))  # frightened ghosts share one
    return [f"{name}{RECALL}" for name in names]


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
