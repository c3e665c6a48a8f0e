"""Entity figures: reconstructed pictures and RAM truth → whether player, ghosts, dots, digits are where they should be.

Every pixel is judged by the nearest of the colours that the true frames t and t+1 have, beside copy-last; the true
picture itself, judged by the same test, is the bound. Knows the model's pictures alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lapa_ray.core.pictures import Screen
from lapa_ray.envs.entities import entities_of
from lapa_ray.envs.looks import Looks, Marks, Sought, looks_of
from lapa_ray.evaluation.estimates import Estimate
from lapa_ray.evaluation.figures import Figure, FigureGroup
from lapa_ray.evaluation.marks_f1 import MarksF1
from lapa_ray.evaluation.palette_classes import nearest_indices
from lapa_ray.evaluation.sign_reading import SignReading, signs_in
from lapa_ray.evaluation.sprite_recall import TOLERANCES_PX, SpriteRecall

MODEL, COPY_LAST, TRUE = "model", "copy_last_frame", "true_frame"
KEYS = (MODEL, COPY_LAST, TRUE)
NAME, TITLE = "entities", "Entities (VQ-VAE)"

MOVED_NOTE = "Of those that moved by more than 2 px in the step: copy-last has 0 by definition."
ERROR_NOTE = "Mean distance of the centroids where it was found; what was missed is in the recall alone."
GONE_NOTE = "Shown by frame t, but not by frame t+1: gone, or under a sprite. Copy-last has 0 by definition."
CHANGED_CELL_NOTE = "Of the places that differ from frame t alone."


@dataclass
class _Episode:
    """What is known of the episode that is measured now."""

    number: int
    composites: Screen
    sprites: tuple[Sought, ...]
    marks: tuple[Marks, ...]
    signs: dict[str, NDArray[np.uint8]]


class EntityMeter:
    """Accumulates what the VQ-VAE's pictures show of the entities of one game, episode by episode."""

    def __init__(self, game: str, palette: NDArray[np.uint8]) -> None:
        """`palette` uint8 [256, 3], what the model sees of indices; empty where pictures are RGB themselves."""
        self._game, self._palette = game, palette
        self._looks = looks_of(game)
        self._episode: _Episode | None = None
        self._labels: dict[str, str] = {}
        self._sprites: dict[str, SpriteRecall] = {}
        self._marks: dict[str, MarksF1] = {}
        self._cells: dict[str, SignReading] = {}
        self._has_ram = False

    def begin(self, episode_id: int, composites: Screen, ram: NDArray[np.uint8] | None) -> None:
        """Go on with an episode: `composites` uint8 [T+1, H, W], `ram` uint8 [T+1, 128] or None if it has none."""
        self._episode, self._has_ram = None, self._has_ram or ram is not None
        looks = self._looks
        if ram is None or looks is None or not self._sees_colours:
            return
        entities = entities_of(self._game).read(ram)
        self._episode = _Episode(
            episode_id,
            composites,
            tuple(looks.sprites(entities)),
            tuple(looks.marks(entities)),
            {cells.name: signs_in(cells, composites) for cells in looks.cells},
        )
        self._enter(looks, self._episode)

    def update(self, steps: NDArray[np.int64], pictures: Tensor) -> None:
        """Count `pictures` uint8 [B, 3, H, W], the model's frames t+1 of the pairs `steps` of this episode."""
        episode, looks = self._episode, self._looks
        if episode is None or looks is None:
            return
        states, number = steps + 1, episode.number
        before, after = episode.composites[steps], episode.composites[states]
        predicted = nearest_indices(pictures, (before, after), self._palette, looks.bands)
        guesses = {MODEL: predicted, COPY_LAST: before, TRUE: after}
        for sought in episode.sprites:
            self._sprites[sought.name].update(number, sought, states, before, after, guesses)
        for marks in episode.marks:
            self._marks[marks.name].update(number, marks, states, before, after, guesses)
        for cells in looks.cells:
            self._cells[cells.name].update(number, cells, episode.signs[cells.name], before, after, guesses)

    def group(self, seed: int, data: str) -> FigureGroup:
        """All figures, or why there are none; `data`: on which pairs."""
        if missing := self._missing():
            return FigureGroup(name=NAME, title=TITLE, data=data, missing=missing)
        return FigureGroup(name=NAME, title=TITLE, data=data, figures=tuple(self._figures(seed)))

    @property
    def _sees_colours(self) -> bool:
        """Whether every pixel's colour tells its palette index: no RGB imports, no grey."""
        return len(self._palette) > 0 and bool((self._palette[:, 0] != self._palette[:, 1]).any())

    def _missing(self) -> str:
        if self._looks is None:
            return f"Not measured: what the entities of {self._game} look like is not known here."
        if not self._sees_colours:
            return (
                "Not measured: entities are told by their palette colours, and these pictures are RGB imports or grey."
            )
        return (
            ""
            if self._has_ram
            else "Not measured: these frames were imported without RAM, which tells where things are."
        )

    def _enter(self, looks: Looks, episode: _Episode) -> None:
        for sprite in episode.sprites:
            self._labels[sprite.name] = sprite.label
            self._sprites.setdefault(sprite.name, SpriteRecall(KEYS))
        for marks in episode.marks:
            self._labels[marks.name] = marks.label
            self._marks.setdefault(marks.name, MarksF1(KEYS))
        for cells in looks.cells:
            self._labels[cells.name] = cells.label
            self._cells.setdefault(cells.name, SignReading(KEYS))

    def _figures(self, seed: int) -> Iterator[Figure]:
        for name, sprite in self._sprites.items():
            yield from self._sprite_figures(name, sprite, seed)
        for name, marks in self._marks.items():
            label = self._labels[name]
            yield _figure(f"{name}_f1", f"{label}: F1", "", marks.there, seed, "Of those that the true picture shows.")
            yield _figure(f"{name}_gone_f1", f"{label}: F1 of those that vanish", "", marks.gone, seed, GONE_NOTE)
        for name, cells in self._cells.items():
            label = self._labels[name]
            yield _figure(f"{name}_read", f"{label}: read as the truth", "%", cells.right, seed, "")
            yield _figure(
                f"{name}_changed_read", f"{label}: read as the truth, changed ones", "%", cells.right_changed, seed,
                CHANGED_CELL_NOTE,
            )  # fmt: skip

    def _sprite_figures(self, name: str, sprite: SpriteRecall, seed: int) -> Iterator[Figure]:
        label, shown = self._labels[name], sprite.shown.estimate(seed=seed)
        share = "never looked for" if shown.value is None else f"{100 * shown.value:.1f} % of {shown.num_samples:,}"
        note = f"Of the moments in which the true picture shows it ({share} in which RAM has it there)."
        for px in TOLERANCES_PX:

            def recall(key: str, seed: int, px: int = px) -> Estimate:
                return sprite.recall(key, px, seed)

            yield _figure(f"{name}_recall_{px}px", f"{label}: found within {px} px", "%", recall, seed, note)
        yield _figure(
            f"{name}_moved_recall_{TOLERANCES_PX[-1]}px", f"{label}: found within {TOLERANCES_PX[-1]} px, moved ones",
            "%", sprite.moved_recall, seed, MOVED_NOTE,
        )  # fmt: skip
        yield _figure(
            f"{name}_position_error_px", f"{label}: position error", "px", sprite.position_error, seed, ERROR_NOTE
        )


def _figure(name: str, label: str, unit: str, measure: Callable[[str, int], Estimate], seed: int, note: str) -> Figure:
    return Figure(
        name=name,
        label=label,
        unit=unit,
        better="lower" if unit == "px" else "higher",
        estimate=measure(MODEL, seed),
        baselines={COPY_LAST: measure(COPY_LAST, seed)},
        references={TRUE: measure(TRUE, seed)},
        note=note,
    )
