"""Held-out actions: whether a trained VQ-VAE's codes move the player alike beside another frame, or say where it is.

A small part of what `evaluate` measures, of the codes alone and of few pairs, so that every training of a sweep can
tell it. Without RAM that somebody has read nothing is told, and no swaps of decoders that see nothing of frame t.
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
from lapa_ray.evaluation.leakage import ProbeEpisode, leakage_figures
from lapa_ray.evaluation.walks import Walk, entities_in, known_steps
from lapa_ray.models.colour import PaletteRgb
from lapa_ray.models.vqvae import Vqvae
from lapa_ray.stages.screen_codes import codes_of

SWAP, RANDOM_SWAP, FOUND, LEAKAGE, MOVEMENT = (
    *("code_swap_agreement", "random_swap_agreement", "code_swap_found"),
    *("leakage_r2", "movement_r2"),
)
ACTION_FIGURES = (SWAP, RANDOM_SWAP, FOUND, LEAKAGE, MOVEMENT)
PROBE_EPISODES, PROBE_STEPS, PROBED_STEPS = 16, 2000, 1000
"""The probe is fitted on so many training episodes at most, so many of their steps, and asked of so many held out."""
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
        few = np.unique(np.linspace(0, len(training) - 1, PROBE_EPISODES).round().astype(int))
        self._dataset, self._composite, self._palette = dataset, composite, palette
        self._walks = _walks_in(dataset, held_out)
        self._training = _walks_in(dataset, [training[index] for index in few.tolist()])
        self._swaps = choose_swaps(self._walks, num_swaps, seed=0)

    def findings(self, model: Vqvae) -> Findings:
        """What `model`, in eval mode, makes of them."""
        fitted = self._probe_episodes(model, self._training, PROBE_STEPS)
        probed = self._probe_episodes(model, self._walks, PROBED_STEPS)
        told = leakage_figures(fitted, probed, model.config.quantizer.codebook_size, seed=0)
        figures = {figure.name: figure.estimate.value for figure in told}
        meter = self._swap_meter(model)
        if meter is not None:
            for episode in self._walks:
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
        for episode, walk in self._walks.items():
            steps = np.unique([swap.step_a for swap in self._swaps if swap.episode_a == episode]).astype(np.int64)
            codes[episode] = np.full((len(walk.moved), model.config.num_tokens), -1)
            codes[episode][steps] = self._codes(model, episode, steps)
        return codes

    def _codes(self, model: Vqvae, episode: int, steps: NDArray[np.int64]) -> NDArray[np.int64]:
        return codes_of(model, self._palette, self._composites(episode), steps)

    def _composites(self, episode: int) -> NDArray[np.uint8]:
        return self._dataset.composites(episode, self._composite)

    def _sheet(self, shown: Sequence[tuple[Swap, Rgb]]) -> Rgb | None:
        rows = []
        for swap, decoded in shown:
            of_a, of_b = self._composites(swap.episode_a), self._composites(swap.episode_b)
            true = (of_a[swap.step_a], of_a[swap.step_a + 1], of_b[swap.step_b])
            rows.append([*(to_rgb(screen[None], self._dataset.info.palette)[0] for screen in true), decoded])
        return contact_sheet(rows) if rows else None


def _walks_in(dataset: FrameDataset, episodes: Sequence[int]) -> dict[int, Walk]:
    read = {episode: entities_in(dataset, episode) for episode in episodes}
    return {episode: Walk.of(entities) for episode, entities in read.items() if entities is not None}


def _swap_figures(told: Sequence[Figure]) -> dict[str, float | None]:
    by_name = {figure.name: figure for figure in told}
    return {
        SWAP: by_name[SWAP].estimate.value,
        RANDOM_SWAP: by_name[SWAP].baselines["random_codes"].value,
        FOUND: by_name[FOUND].estimate.value,
    }
