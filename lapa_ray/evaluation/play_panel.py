"""Play panel: a picture of the game, and beside it what its player did and thought, as one picture for a video.

Score, lives and step, the action, and each action's value as a bar, the greatest one marked. Knows no player.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
Colour = tuple[int, int, int]

PANEL_SHARE = 0.85
"""Width of the panel, as a share of the width of the game's picture."""
PAGE, INK, MUTED, GRID = (18, 20, 23), (236, 238, 241), (163, 171, 184), (52, 58, 67)
CHOSEN, BEST, RANDOM = (242, 194, 48), (86, 180, 233), (255, 138, 61)
FONT = cv2.FONT_HERSHEY_SIMPLEX
LINE_PIXELS = 9.0
"""Height of a line of text at scale 1, in pixels of the game."""
GLYPH_PIXELS = 22.0
"""Height of a capital of the font at size 1."""


@dataclass(frozen=True)
class Moment:
    """What is told of one agent step.

    `values` float [num_actions] is what the player thought of each action before it chose; None if it has no values.
    `is_random`: whether chance chose. `action` None is the first picture, before any.
    """

    score: float
    step: int
    lives: int
    action: int | None
    is_random: bool = False
    values: NDArray[np.floating] | None = None


class PlayPanel:
    """Draws the moments of one episode; the scale of the bars grows with what was seen."""

    def __init__(self, player: str, action_names: Sequence[str], height: int, width: int, scale: int) -> None:
        """Pictures of the game are [height, width]; each of its pixels becomes `scale` × `scale`."""
        self._player, self._names, self._scale = player, action_names, scale
        self._game = (height * scale, width * scale)
        self._panel_width = round(width * scale * PANEL_SHARE)
        self._lowest, self._highest = np.inf, -np.inf

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of what is drawn, both even, as videos want them."""
        return self._game[0] + self._game[0] % 2, (total := self._game[1] + self._panel_width) + total % 2

    def draw(self, screen: Rgb, moment: Moment) -> Rgb:
        """RGB uint8 [*shape, 3] of a screen RGB uint8 [height, width, 3] and what is told of it."""
        canvas = np.full((*self.shape, 3), PAGE, dtype=np.uint8)
        enlarged = np.repeat(np.repeat(screen, self._scale, axis=0), self._scale, axis=1)
        canvas[: self._game[0], : self._game[1]] = enlarged
        self._tell(canvas, moment)
        if moment.values is not None:
            self._draw_values(canvas, moment)
        return canvas

    def _tell(self, canvas: Rgb, moment: Moment) -> None:
        self._text(canvas, self._player, 1, MUTED)
        self._text(canvas, f"score {moment.score:,.0f}", 2.4, INK, size=1.5)
        self._text(canvas, f"step {moment.step:,}   lives {moment.lives}", 3.7, MUTED)
        if moment.action is None:
            return
        name, colour = self._names[moment.action], RANDOM if moment.is_random else CHOSEN
        self._text(canvas, f"{name}, by chance" if moment.is_random else name, 5.2, colour)

    def _draw_values(self, canvas: Rgb, moment: Moment) -> None:
        assert moment.values is not None
        values = np.asarray(moment.values, dtype=np.float64)
        self._lowest, self._highest = min(self._lowest, values.min()), max(self._highest, values.max())
        self._text(canvas, "value of each action (Q)", 6.9, MUTED)
        top, room = 7.7, (self._game[0] / self._scale - 4) / LINE_PIXELS - 7.7
        pitch = min(1.5, room / len(values))
        for row, (name, value) in enumerate(zip(self._names, values, strict=True)):
            marks = (row == moment.action, row == int(values.argmax()))
            self._draw_value(canvas, name, float(value), top + pitch * row, pitch, *marks)

    def _draw_value(
        self, canvas: Rgb, name: str, value: float, line: float, pitch: float, is_chosen: bool, is_best: bool
    ) -> None:
        size = min(1.0, pitch / 1.15) * 0.8
        left, right = self._column(0.42), self._column(0.74)
        top, bottom = self._row(line + 0.12 * pitch), self._row(line + 0.88 * pitch)
        share = (value - self._lowest) / max(self._highest - self._lowest, 1e-9)
        colour = CHOSEN if is_chosen else BEST if is_best else MUTED
        cv2.rectangle(canvas, (left, top), (right, bottom), GRID, -1)
        cv2.rectangle(canvas, (left, top), (left + round(share * (right - left)), bottom), colour, -1)
        baseline = line + 0.5 * pitch + 0.32 * size
        self._text(canvas, name, baseline, colour if is_chosen or is_best else INK, size)
        self._text(canvas, f"{value:.3g}", baseline, INK, size, column=0.77)

    def _text(
        self, canvas: Rgb, text: str, line: float, colour: Colour, size: float = 1.0, column: float = 0.0
    ) -> None:
        """Write `text` with its feet on `line`, counted in lines from the top."""
        factor = size * 0.62 * LINE_PIXELS * self._scale / GLYPH_PIXELS
        thickness = max(1, round(factor * 1.8))
        place = (self._column(column), self._row(line))
        cv2.putText(canvas, text, place, FONT, factor, colour, thickness, cv2.LINE_AA)

    def _row(self, line: float) -> int:
        return round(line * LINE_PIXELS * self._scale)

    def _column(self, share: float) -> int:
        """Pixels from the left of the place at `share` of the panel's width."""
        margin = 5 * self._scale
        return round(self._game[1] + margin + share * (self._panel_width - 2 * margin))
