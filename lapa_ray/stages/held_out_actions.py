"""Held-out actions: whether a trained VQ-VAE's codes move the player alike beside another frame, or say where it is.

A small part of what `evaluate` measures, of the codes alone and of few pairs, so that every training of a sweep can
tell it. Without RAM that somebody has read nothing is told, and no swaps of decoders that see nothing of frame t, of
grey, or of frames without a palette.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.pictures import Composite, to_rgb
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.evaluation.code_swap import PlayerLook, Swap, SwapMeter, choose_swaps
from lapa_ray.evaluation.figures import Figure
from lapa_ray.evaluation.images import Rgb, contact_sheet
from lapa_ray.evaluation.latent_measurement import PROBE_EPISODES, PROBE_STEPS, PROBED_STEPS
from lapa_ray.evaluation.leakage import ProbeEpisode, leakage_figures
from lapa_ray.evaluation.rollouts import evenly
from lapa_ray.evaluation.sweep_uses import CELL_LEAKAGE, FOUND, LEAKAGE, MOVEMENT, RANDOM_SWAP, SWAP
from lapa_ray.evaluation.sweep_uses import PROBE_STEPS as PROBE_STEPS_FIGURE
from lapa_ray.evaluation.walks import Walk, entities_in, known_steps, walks_in
from lapa_ray.models.colour import PaletteRgb
from lapa_ray.models.vqvae import Vqvae
from lapa_ray.stages.screen_codes import codes_of

SWAP_FIGURES, PROBE_FIGURES = (SWAP, RANDOM_SWAP, FOUND), (LEAKAGE, MOVEMENT)
"""What an objective or a constraint may be of."""
BATCH = 64


@dataclass(frozen=True)
class Findings:
    """`figures` by name, those that can be told; `sheet` uint8 [H, W, 3], a row a way that the player goes: A's frames
    t and t+1, B's frame t, and A's codes decoded beside it.
    """

    figures: Mapping[str, float]
    sheet: Rgb | None


class HeldOutActions:
    """Measures a model on the chosen pairs; each episode is read when it is its turn, and let go."""

    def __init__(
        self,
        dataset: FrameDataset,
        parts: tuple[Sequence[int], Sequence[int]],
        composite: Composite,
        palette: PaletteRgb,
        num_swaps: int,
    ) -> None:
        """`parts`: training and held-out episodes; `palette`: to what the model sees, on its device."""
        training, held_out = parts
        self._dataset, self._composite, self._palette = dataset, composite, palette
        self._walks = walks_in(dataset, held_out)
        self._training = walks_in(dataset, evenly(training, PROBE_EPISODES))
        self._swaps = choose_swaps(self._walks, num_swaps, seed=0)

    def findings(self, model: Vqvae) -> Findings:
        """What `model`, in eval mode, makes of them."""
        fitted = self._probe_episodes(model, self._training, PROBE_STEPS)
        probed = self._probe_episodes(model, self._walks, PROBED_STEPS)
        told = leakage_figures(fitted, probed, model.config.quantizer.codebook_size, seed=0)
        figures = _probe_figures(told)
        meter = self._swap_meter(model)
        if meter is not None:
            for episode in sorted({swap.episode_b for swap in self._swaps}):
                meter.update(episode, self._composites(episode))
            figures |= _swap_figures(meter.figures(seed=0))
        found = {name: value for name, value in figures.items() if value is not None}
        return Findings(found, None if meter is None else self._sheet(meter.shown))

    def _probe_episodes(self, model: Vqvae, walks: Mapping[int, Walk], limit: int) -> list[ProbeEpisode]:
        return [
            ProbeEpisode.of(episode, self._codes(model, episode, steps), walks[episode], steps)
            for episode, steps in known_steps(walks, limit).items()
            if len(steps)
        ]

    def _swap_meter(self, model: Vqvae) -> SwapMeter | None:
        player = self._player()
        if player is None or not self._swaps or model.config.conditioning == "none":
            return None
        device = self._palette.table.device
        return SwapMeter(
            lambda codes, frame_t: model.decode(codes.to(device), frame_t.to(device)),
            self._codes_of_swaps(model),
            self._walks,
            self._swaps,
            self._dataset.info.palette,
            player,
            batch_size=BATCH,
        )

    def _player(self) -> PlayerLook | None:
        """None where it cannot be told by its colour."""
        if not self._walks or not self._palette.has_colours:
            return None
        entities = entities_in(self._dataset, next(iter(self._walks)))
        assert entities is not None
        return PlayerLook.of(self._dataset.info.game, entities, self._dataset.info.palette)

    def _codes_of_swaps(self, model: Vqvae) -> dict[int, NDArray[np.int64]]:
        """Codes [T, tokens] by episode, of the pairs that are an A; the others have none."""
        codes: dict[int, NDArray[np.int64]] = {}
        for episode in sorted({swap.episode_a for swap in self._swaps}):
            steps = np.unique([swap.step_a for swap in self._swaps if swap.episode_a == episode])
            codes[episode] = np.full((len(self._walks[episode].moved), model.config.num_tokens), -1)
            codes[episode][steps] = self._codes(model, episode, steps)
        return codes

    def _codes(self, model: Vqvae, episode: int, steps: NDArray[np.int64]) -> NDArray[np.int64]:
        return codes_of(model, self._palette, self._composites(episode), steps)

    def _composites(self, episode: int) -> NDArray[np.uint8]:
        return self._dataset.composites(episode, self._composite)

    def _sheet(self, shown: Sequence[tuple[Swap, Rgb]]) -> Rgb | None:
        rows = [
            [*self._pair(swap.episode_a, swap.step_a), self._pair(swap.episode_b, swap.step_b)[0], decoded]
            for swap, decoded in shown
        ]
        return contact_sheet(rows) if rows else None

    def _pair(self, episode: int, step: int) -> Rgb:
        """True pictures t and t+1, RGB uint8 [2, H, W, 3]."""
        pair = np.empty((2, *self._dataset.info.screen_shape), dtype=np.uint8)
        self._dataset.decoder(self._composite).decode(episode, step, pair)
        return to_rgb(pair, self._dataset.info.palette)


def _probe_figures(told: Sequence[Figure]) -> dict[str, float | None]:
    """R² and, for whom is to judge it, whether the probe could have told a leak."""
    by_name = {figure.name: figure for figure in told}
    figures: dict[str, float | None] = {name: figure.estimate.value for name, figure in by_name.items()}
    if (leakage := by_name.get(LEAKAGE)) is not None:
        figures |= {PROBE_STEPS_FIGURE: leakage.num_fitted, CELL_LEAKAGE: leakage.references["cell_probe"].low}
    return figures


def _swap_figures(told: Sequence[Figure]) -> dict[str, float | None]:
    by_name = {figure.name: figure for figure in told}
    return {
        SWAP: by_name[SWAP].estimate.value,
        RANDOM_SWAP: by_name[SWAP].baselines["random_codes"].value,
        FOUND: by_name[FOUND].estimate.value,
    }
