"""Measurement: a chain of artefacts' data and models → every figure but the returns, and the pictures of the report.

Goes through the held-out episodes one by one, holding the pictures of one alone. Models come as functions; this knows
neither their networks nor where they run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from lapa_ray.core.pictures import Composite, Screen, changed, to_rgb
from lapa_ray.dataset.codes import CodeDataset
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.evaluation.codes import CodeStatistics
from lapa_ray.evaluation.entity_figures import EntityMeter
from lapa_ray.evaluation.exhibits import Exhibits, choose_pairs, median_rollout, strip_horizons
from lapa_ray.evaluation.figures import FigureGroup, HorizonCurves
from lapa_ray.evaluation.latent_measurement import LatentMeasurement
from lapa_ray.evaluation.model_figures import codes_group, horizon_curves, world_model_group
from lapa_ray.evaluation.reconstruction import (
    Decoder,
    ReconstructionMeter,
    batches,
    chw,
    decode_8bit,
    hwc,
    median_frame,
    reconstruction_group,
)
from lapa_ray.evaluation.rollouts import (
    CodeTrack,
    OpenLoopMeter,
    TeacherForcedMeter,
    decoded_film,
    evenly,
    possible_starts,
    spread,
)
from lapa_ray.models.imagination import Dynamics

MEDIAN_EPISODES, MEDIAN_FRAMES = 4, 256
"""The median frame is taken from this many training episodes at most, and this many of their pictures."""


@dataclass(frozen=True)
class Sampling:
    """What is measured and how much; counts are upper bounds, spread evenly over the held-out episodes."""

    composite: Composite
    codebook_size: int
    horizon: int
    num_rollouts: int
    num_pictured_rollouts: int
    num_ssim_pairs: int
    num_part_pairs: int
    """Pairs of each of the other parts of the split, see `evaluation.part_figures`."""
    batch_size: int
    palette: NDArray[np.uint8]
    """What the VQ-VAE sees of indices, RGB uint8 [256, 3]; empty where pictures are RGB themselves."""
    held_out_part: str
    """Which part of the split the held-out episodes are: validation or test."""


@dataclass(frozen=True)
class Models:
    """The two models as functions of CPU tensors."""

    decode: Decoder
    dynamics: Dynamics


class Measurement:
    """All model figures on `held_out` episodes; `training` episodes serve the baselines that learn from data."""

    def __init__(
        self,
        frames: FrameDataset,
        codes: CodeDataset,
        models: Models,
        split: tuple[list[int], list[int]],
        sampling: Sampling,
        latent: LatentMeasurement | None = None,
    ) -> None:
        """`split`: training episodes of the world model, and episodes that no model was trained on."""
        self._latent = latent
        self._frames, self._codes, self._models, self._composite = frames, codes, models, sampling.composite
        self._sampling, self._palette = sampling, sampling.palette
        training, self.held_out = split
        self._training_codes = self._count_codes(training)
        self._held_out_codes = self._count_codes(self.held_out)
        mode = self._training_codes.mode()
        self.median_frame = self._median_frame(training)
        """Baseline, uint8 [H, W, 3]."""
        self._entities = EntityMeter(frames.info.game, self._palette)
        self._pixels = ReconstructionMeter(models.decode, self._palette, self.median_frame, self._entities.update)
        self._teacher = TeacherForcedMeter(models.dynamics, mode, batch_size=sampling.batch_size)
        self._rollouts = OpenLoopMeter(models.dynamics, models.decode, mode, self._palette, horizon=sampling.horizon)
        self._changed: dict[int, NDArray[np.int64]] = {}
        self._pictured: list[tuple[int, int, int]] = []
        self._choose_samples()

    @property
    def num_steps(self) -> int:
        """Held-out steps."""
        return sum(self._frames.num_steps(episode) for episode in self.held_out)

    @property
    def num_samples(self) -> int:
        """Pairs and rollouts to be measured."""
        return self.num_steps + self._num_rollouts

    def run(self) -> Iterator[int]:
        """Measure one held-out episode after the other; yields how many pairs or rollouts were done, of each batch."""
        for episode_id in self.held_out:
            yield from self._measure_episode(episode_id)

    def groups(self, seed: int) -> tuple[FigureGroup, ...]:
        """The figures of VQ-VAE, codes and world model."""
        count = len(self.held_out)
        where = f"{count} held-out episode{'s' if count > 1 else ''} ({self._sampling.held_out_part} part)"
        pairs = f"All {self.num_steps:,} pairs of {where}."
        tokens = f"All tokens of {self.num_steps:,} pairs of {where}."
        return (
            reconstruction_group(self._pixels, seed, self.ssim_fact, pairs),
            self._entities.group(seed, pairs),
            codes_group(self._held_out_codes, self._training_codes, count, tokens),
            *(() if self._latent is None else (self._latent.group(seed),)),
            self._world_model_group(seed, where),
        )

    def _world_model_group(self, seed: int, where: str) -> FigureGroup:
        data = f"Teacher forced: all steps of {where} but the first. {self.rollout_fact}"
        if self._num_rollouts:
            return world_model_group(self._teacher, self._rollouts, seed, data)
        too_short = f"No open loop: no held-out episode is longer than the horizon of {self._sampling.horizon} steps."
        return world_model_group(self._teacher, None, seed, data, too_short)

    def curves(self, seed: int) -> tuple[HorizonCurves, ...]:
        """Figures by horizon; none where there was no rollout."""
        return horizon_curves(self._rollouts, seed) if self._num_rollouts else ()

    @property
    def ssim_fact(self) -> str:
        """On how many pairs SSIM was measured."""
        count = sum(len(steps) for steps in self._ssim_steps.values())
        return f"SSIM is slow to compute and was measured on {count:,} evenly spaced held-out pairs."

    @property
    def rollout_fact(self) -> str:
        """On how many rollouts the open-loop figures were measured."""
        pictured = sum(len(starts) for starts in self._pictured_starts.values())
        return f"Open loop: {self._num_rollouts:,} evenly spaced rollouts, {pictured:,} of them decoded to pictures."

    def exhibits(self, recorded_returns: list[float], random_returns: list[float]) -> Exhibits:
        """The pictures, after `run`."""
        return Exhibits(
            **self._pair_arrays(),
            **self._strip_arrays(),
            code_counts=self._held_out_codes.counts,
            recorded_returns=np.array(recorded_returns, dtype=np.float64),
            random_returns=np.array(random_returns, dtype=np.float64),
        )

    def _choose_samples(self) -> None:
        sampling, held_out = self._sampling, self.held_out
        lengths = {episode: self._frames.num_steps(episode) for episode in held_out}
        starts = {episode: possible_starts(length, sampling.horizon) for episode, length in lengths.items()}
        chosen = spread({episode: len(part) for episode, part in starts.items()}, sampling.num_rollouts)
        self._starts = {episode: starts[episode][part] for episode, part in chosen.items()}
        pictured = spread({e: len(part) for e, part in self._starts.items()}, sampling.num_pictured_rollouts)
        self._pictured_starts = {episode: self._starts[episode][part] for episode, part in pictured.items()}
        self._ssim_steps = spread(lengths, sampling.num_ssim_pairs)
        self._num_rollouts = sum(len(part) for part in self._starts.values())

    def _measure_episode(self, episode_id: int) -> Iterator[int]:
        composites = self._frames.composites(episode_id, self._composite)
        counts = [np.count_nonzero(changed(before, after, self._palette)) for before, after in pairwise(composites)]
        self._changed[episode_id] = np.array(counts, dtype=np.int64)
        track, size = self._track(episode_id), self._sampling.batch_size
        self._entities.begin(episode_id, composites, self._frames.steps(episode_id).ram)
        for steps in batches(np.arange(len(track.codes)), size):
            self._pixels.update(episode_id, composites, track.codes, steps, self._ssim_steps[episode_id])
            yield len(steps)
        self._teacher.update(track)
        if self._latent is not None:
            self._latent.update(episode_id, composites, self._changed[episode_id])
        pictured = self._pictured_starts[episode_id]
        for starts in batches(self._starts[episode_id], size):
            self._rollouts.update(track, composites, starts, pictured)
            yield len(starts)
        for start in pictured.tolist():
            future = composites[start + self._sampling.horizon]
            count = np.count_nonzero(changed(composites[start], future, self._palette))
            self._pictured.append((int(count), episode_id, start))

    def _track(self, episode_id: int) -> CodeTrack:
        episode = self._codes.episode(episode_id)
        return CodeTrack(episode_id, episode.codes, episode.actions)

    def _count_codes(self, episode_ids: list[int]) -> CodeStatistics:
        statistics = CodeStatistics(self._sampling.codebook_size, self._codes.info.num_tokens)
        for episode_id in episode_ids:
            statistics.update(self._codes.episode(episode_id).codes)
        return statistics

    def _median_frame(self, training: list[int]) -> NDArray[np.uint8]:
        chosen, pictures = evenly(training, MEDIAN_EPISODES), []
        for episode_id in chosen:
            composites = self._frames.composites(episode_id, self._composite)
            every = max(1, len(composites) * len(chosen) // MEDIAN_FRAMES)
            pictures.append(composites[::every])
        return median_frame(np.concatenate(pictures), self._palette)

    def _pair_arrays(self) -> dict[str, NDArray]:
        chosen = choose_pairs(self._changed)
        pairs = list(chosen.values())
        pictures = [self._pair(episode, step) for episode, step in pairs]
        return {
            "pair_names": np.array(list(chosen)),
            "pair_episodes": np.array([episode for episode, _ in pairs]),
            "pair_steps": np.array([step for _, step in pairs]),
            "pair_changed_pixels": np.array([self._changed[episode][step] for episode, step in pairs]),
            "pair_before": np.stack([before for before, _, _ in pictures]),
            "pair_after": np.stack([after for _, after, _ in pictures]),
            "pair_reconstructed": np.stack([reconstructed for _, _, reconstructed in pictures]),
        }

    def _pair(self, episode_id: int, step: int) -> tuple[Screen, Screen, Screen]:
        before, after = to_rgb(self._frames.composites(episode_id, self._composite)[step : step + 2], self._palette)
        codes = self._codes.episode(episode_id).codes[step : step + 1]
        return before, after, hwc(decode_8bit(self._models.decode, codes, chw(before[None])))[0]

    def _strip_arrays(self) -> dict[str, NDArray]:
        if not self._pictured:
            return _no_strip()
        episode_id, start = median_rollout(self._pictured)
        horizons = np.array(strip_horizons(self._sampling.horizon))
        track, composites = self._track(episode_id), self._frames.composites(episode_id, self._composite)
        predicted = self._rollouts.roll(track, np.array([start]))
        seen = to_rgb(composites[start : start + 1], self._palette)
        film = torch.cat(list(decoded_film(self._models.decode, predicted, chw(seen))))
        meanings = self._frames.info.action_meanings
        return {
            "strip_start": np.array([episode_id, start]),
            "strip_seen": seen,
            "strip_horizons": horizons,
            "strip_actions": np.array([meanings[a] for a in track.actions[start + horizons - 1]]),
            "strip_true": to_rgb(composites[start + horizons], self._palette),
            "strip_imagined": hwc(film[horizons - 1]),
        }


def _no_strip() -> dict[str, NDArray]:
    pictures = np.zeros((0, 1, 1, 3), dtype=np.uint8)
    numbers = np.zeros(0, dtype=np.int64)
    return {
        "strip_start": numbers,
        "strip_seen": pictures,
        "strip_horizons": numbers,
        "strip_actions": np.zeros(0, dtype=np.str_),
        "strip_true": pictures,
        "strip_imagined": pictures,
    }
