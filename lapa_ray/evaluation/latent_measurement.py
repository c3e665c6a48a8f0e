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
from lapa_ray.envs.entities import Entities
from lapa_ray.envs.palette import ntsc_palette
from lapa_ray.evaluation.code_activity import code_activity, code_map
from lapa_ray.evaluation.code_exhibits import CodeExhibits, SwapPictures
from lapa_ray.evaluation.code_swap import PlayerLook, SwapMeter, Walk, choose_swaps
from lapa_ray.evaluation.codes import CodeStatistics
from lapa_ray.evaluation.controllability import STEPS, Boxes, ControllabilityMeter
from lapa_ray.evaluation.data_quality_datasets import entity_map_of
from lapa_ray.evaluation.event_lift import EventLifts, EventRow
from lapa_ray.evaluation.events import events_of, in_play, player_moves, possible_steps
from lapa_ray.evaluation.figures import FigureGroup
from lapa_ray.evaluation.leakage import ProbeEpisode, leakage_figures
from lapa_ray.evaluation.reconstruction import Codes, Decoder
from lapa_ray.evaluation.rollouts import spread

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
        self._entities = {episode: self._read(episode) for episode in held_out}
        self._walks = {episode: _walk(read) for episode, read in self._entities.items() if read is not None}
        self._films = ControllabilityMeter(
            decode, self._codes, options.palette, batch_size=options.batch_size, seed=options.seed
        )
        lengths = {episode: max(len(part) - STEPS + 1, 0) for episode, part in self._codes.items()}
        self._starts = spread(lengths, options.num_films)
        self._swaps = self._swap_meter(decode)
        self._events = EventLifts(options.codebook_size)
        self._probed: list[ProbeEpisode] = []
        self._probed_steps = self._steps_to_probe(held_out, PROBED_STEPS)
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
            self._probed.append(_probe_episode(episode_id, codes, walk, steps))

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

    def _read(self, episode_id: int) -> Entities | None:
        entity_map, ram = entity_map_of(self._frames.info.game), self._frames.steps(episode_id).ram
        return None if entity_map is None or ram is None else entity_map.read(ram)

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

    def _steps_to_probe(self, episode_ids: list[int], limit: int) -> dict[int, NDArray[np.int64]]:
        """At most `limit` steps in which the player plays, evenly spaced over the episodes that tell."""
        walks = {episode: self._walks.get(episode) for episode in episode_ids}
        known = {episode: np.flatnonzero(walk.known) for episode, walk in walks.items() if walk is not None}
        chosen = spread({episode: len(steps) for episode, steps in known.items()}, limit) if known else {}
        return {episode: known[episode][part] for episode, part in chosen.items()}

    def _training_steps(self, training: list[int], codes: CodeDataset) -> list[ProbeEpisode]:
        if not self._walks:
            return []
        chosen = np.unique(np.linspace(0, len(training) - 1, PROBE_EPISODES).round().astype(int))
        walks: dict[int, Walk] = {}
        for index in chosen.tolist():
            read = self._read(training[index])
            if read is not None:
                walks[training[index]] = _walk(read)
        known = {episode: np.flatnonzero(walk.known) for episode, walk in walks.items()}
        parts = spread({episode: len(steps) for episode, steps in known.items()}, PROBE_STEPS) if known else {}
        return [
            _probe_episode(
                episode,
                codes.episode(episode).codes,
                walks[episode],
                known[episode][part],
            )
            for episode, part in parts.items()
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


def _walk(entities: Entities) -> Walk:
    player = entities.sprites["player"]
    moved, known = player_moves(entities)
    left, top = player.left.astype(np.int64), player.top.astype(np.int64)
    boxes = Boxes(left, top, in_play(entities), player.width, player.height)
    return Walk(boxes, moved, known)


def _probe_episode(episode_id: int, codes: Codes, walk: Walk, steps: NDArray[np.int64]) -> ProbeEpisode:
    places = np.stack([walk.boxes.left[steps + 1], walk.boxes.top[steps + 1]], axis=1)
    targets = np.concatenate([places, walk.moved[steps]], axis=1).astype(np.float64)
    return ProbeEpisode(episode_id, codes[steps], targets)
