"""Latent measurement: held-out episodes and their codes → what codes are good for, as actions and in themselves.

Goes along with `Measurement`, an episode at a time. What needs the player is left out where nobody has read the game's
RAM. Models come as functions; this knows neither networks nor devices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.pictures import Composite, Screen, to_rgb
from lapa_ray.dataset.codes import CodeDataset
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.envs.palette import ntsc_palette
from lapa_ray.evaluation.code_activity import code_activity, code_map
from lapa_ray.evaluation.code_exhibits import CodeExhibits, SwapPictures
from lapa_ray.evaluation.code_swap import PlayerLook, SwapMeter, choose_swaps
from lapa_ray.evaluation.codes import CodeStatistics
from lapa_ray.evaluation.controllability import STEPS, ControllabilityMeter
from lapa_ray.evaluation.event_lift import EventLifts, EventRow
from lapa_ray.evaluation.events import events_of, possible_steps
from lapa_ray.evaluation.figures import FigureGroup
from lapa_ray.evaluation.leakage import ProbeEpisode, leakage_figures
from lapa_ray.evaluation.reconstruction import Decoder
from lapa_ray.evaluation.rollouts import evenly, spread
from lapa_ray.evaluation.walks import Walk, entities_in, known_steps, walks_in

PROBE_EPISODES, PROBE_STEPS, PROBED_STEPS = 32, 6000, 3000
"""The probe is fitted on so many training episodes at most, so many of their steps, and asked of so many held out."""
NO_FRAME = (
    "No code swap: the decoder sees nothing of frame t, so what it decodes does not depend on where another player is."
)
NO_RAM = "Nothing of the player: this game's RAM is not recorded, or nobody has read it."


@dataclass(frozen=True)
class LatentOptions:
    """How the codes are measured; counts are upper bounds."""

    composite: Composite
    palette: NDArray[np.uint8]
    """What the VQ-VAE sees of indices, RGB uint8 [256, 3]; empty where pictures are RGB themselves."""
    codebook_size: int
    grid: tuple[int, int]
    """Rows and columns of codes."""
    sees_frame_t: bool
    """Whether the decoder does."""
    code_vectors: NDArray[np.float32]
    """[codebook_size, dim]."""
    num_films: int
    """Films of four steps that ΔPSNR is measured on."""
    num_swaps: int
    batch_size: int
    seed: int = 0


class LatentMeasurement:
    """Everything about the codes of `held_out` episodes; `training` ones serve the probe."""

    def __init__(
        self,
        frames: FrameDataset,
        codes: CodeDataset,
        decode: Decoder,
        split: tuple[list[int], list[int]],
        options: LatentOptions,
    ) -> None:
        """`split`: training and held-out episodes."""
        self._frames, self._options = frames, options
        training, held_out = split
        self._held_out = held_out
        self._codes = {episode: codes.episode(episode).codes for episode in held_out}
        self._entities = {episode: entities_in(frames, episode) for episode in held_out}
        self._walks = {episode: Walk.of(read) for episode, read in self._entities.items() if read is not None}
        self._films = ControllabilityMeter(
            decode, self._codes, options.palette, batch_size=options.batch_size, seed=options.seed
        )
        lengths = {episode: max(len(part) - STEPS + 1, 0) for episode, part in self._codes.items()}
        self._starts = spread(lengths, options.num_films)
        self._swaps = self._swap_meter(decode)
        self._events = EventLifts(options.codebook_size)
        self._probed: list[ProbeEpisode] = []
        self._probed_steps = known_steps(self._walks, PROBED_STEPS)
        self._probe_training = self._training_steps(training, codes)
        self._changed: dict[int, NDArray[np.int64]] = {}

    def update(self, episode_id: int, composites: Screen, changed: NDArray[np.int64]) -> None:
        """Measure one held-out episode: `composites` uint8 [T+1, H, W], `changed` [T] pixels of each pair."""
        codes, walk = self._codes[episode_id], self._walks.get(episode_id)
        self._changed[episode_id] = changed
        self._films.update(
            episode_id, composites, codes, self._starts[episode_id], None if walk is None else walk.boxes
        )
        if self._swaps is not None:
            self._swaps.update(episode_id, composites)
        entities = self._entities[episode_id]
        if entities is not None and walk is not None:
            self._events.update(codes, events_of(entities), possible_steps(entities))
            steps = self._probed_steps[episode_id]
            self._probed.append(ProbeEpisode.of(episode_id, codes[steps], walk, steps))

    def group(self, seed: int) -> FigureGroup:
        """The figures of codes as actions, after all episodes."""
        options, count = self._options, len(self._held_out)
        figures = self._films.figures(seed, sees_frame_t=options.sees_frame_t)
        if self._swaps is not None:
            figures += self._swaps.figures(seed)
        probed = sum(len(part.codes) for part in self._probed)
        figures += leakage_figures(self._probe_training, self._probed, options.codebook_size, seed)
        missing = [] if self._walks else [NO_RAM]
        if not options.sees_frame_t:
            missing.append(NO_FRAME)
        films = sum(len(starts) for starts in self._starts.values())
        data = (
            f"{films:,} films of {STEPS} steps, evenly spaced over {count} held-out episode{'s' if count > 1 else ''}"
        )
        swaps = "" if self._swaps is None else f"; {self._swaps.num_swaps:,} code swaps"
        fitted = sum(len(part.codes) for part in self._probe_training)
        probe = f"; a probe fitted on {fitted:,} steps, asked of {probed:,}" if probed else ""
        return FigureGroup(
            name="latent_actions",
            title="Latent actions (codes as actions)",
            data=f"{data}{swaps}{probe}.",
            figures=figures,
            missing=" ".join(missing),
        )

    def events(self, seed: int) -> tuple[EventRow, ...]:
        """Which codes answer what happens in the game."""
        return self._events.table(seed)

    def exhibits(self, seed: int) -> CodeExhibits:
        """What the report shows, after all episodes."""
        options = self._options
        codes = np.concatenate([self._codes[episode] for episode in self._changed])
        statistics = CodeStatistics(options.codebook_size, codes.shape[1])
        statistics.update(codes)
        changed = np.concatenate(list(self._changed.values()))
        activity = code_activity(codes, statistics.mode(), changed)
        mapped = code_map(options.code_vectors, statistics.counts, seed)
        return CodeExhibits.of(options.grid, activity, mapped, self._swap_pictures())

    def _swap_meter(self, decode: Decoder) -> SwapMeter | None:
        options = self._options
        swaps = choose_swaps(self._walks, options.num_swaps, options.seed) if options.sees_frame_t else []
        if not swaps:
            return None
        entities = next(read for read in self._entities.values() if read is not None)
        palette = options.palette if len(options.palette) else ntsc_palette()
        player = PlayerLook.of(self._frames.info.game, entities, palette)
        if player is None:
            return None
        return SwapMeter(
            decode,
            self._codes,
            self._walks,
            swaps,
            options.palette,
            player,
            batch_size=options.batch_size,
            seed=options.seed,
        )

    def _training_steps(self, training: list[int], codes: CodeDataset) -> list[ProbeEpisode]:
        if not self._walks:
            return []
        walks = walks_in(self._frames, evenly(training, PROBE_EPISODES))
        return [
            ProbeEpisode.of(episode, codes.episode(episode).codes[part], walks[episode], part)
            for episode, part in known_steps(walks, PROBE_STEPS).items()
            if len(part)
        ]

    def _swap_pictures(self) -> SwapPictures | None:
        if self._swaps is None or not self._swaps.shown:
            return None
        chosen = self._swaps.shown
        a = [(swap.episode_a, swap.step_a) for swap, _ in chosen]
        b = [(swap.episode_b, swap.step_b) for swap, _ in chosen]
        pairs_a = [self._pair(*place) for place in a]
        return SwapPictures(
            moved=np.array([swap.moved for swap, _ in chosen]),
            a=np.array(a),
            b=np.array(b),
            a_before=np.stack([pair[0] for pair in pairs_a]),
            a_after=np.stack([pair[1] for pair in pairs_a]),
            b_before=np.stack([self._pair(*place)[0] for place in b]),
            decoded=np.stack([picture for _, picture in chosen]),
        )

    def _pair(self, episode_id: int, step: int) -> Screen:
        """True pictures t and t+1, RGB uint8 [2, H, W, 3]."""
        composites = self._frames.composites(episode_id, self._options.composite)
        return to_rgb(composites[step : step + 2], self._options.palette)
