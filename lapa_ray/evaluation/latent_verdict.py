"""Frame tokens or actions: measured figures and stated thresholds → what the codes of one VQ-VAE are good for.

A frame token has to rebuild the picture; an action has to change it, alike from every frame, and not say where things
are. Nothing that was not measured counts as met, nor does what too little data would not have shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lapa_ray.evaluation.figures import Evaluation, Figure, format_value

LEAST_GAIN_DB = 6.0
"""On changed pixels, above copy-last: a quarter of its squared error."""
LEAST_DELTA_DB = 1.0
LEAST_AGREEMENT = 0.75
MOST_LEAKAGE = 0.25
LEAST_PROBE_STEPS = 1000
"""A probe that was fitted on fewer training steps clears no codes: it reads little even from the very place."""


@dataclass(frozen=True)
class Criterion:
    """What is asked, what was measured, and whether that is enough; `met` is None where that cannot be told."""

    asked: str
    found: str
    met: bool | None


@dataclass(frozen=True)
class Verdict:
    """`use`: frame tokens or actions."""

    use: str
    criteria: tuple[Criterion, ...]

    @property
    def sentence(self) -> str:
        """In words."""
        failed = [criterion.found for criterion in self.criteria if criterion.met is False]
        unknown = [criterion.found for criterion in self.criteria if criterion.met is None]
        if failed:
            return f"These codes are not good as {self.use}: {listed(failed)}."
        if unknown:
            return f"Whether these codes are good as {self.use} cannot be told: {listed(unknown)}."
        return f"These codes are good as {self.use}: {listed([criterion.found for criterion in self.criteria])}."


def verdicts(evaluation: Evaluation) -> tuple[Verdict, Verdict]:
    """Of the codes as frame tokens, and as actions."""
    figures = {name: evaluation.figure(name) for name in _ASKED}
    tokens = (
        _above_copy_last(figures["reconstruction_psnr_db"], "PSNR above copy-last", 0.0),
        _above_copy_last(
            figures["reconstruction_changed_psnr_db"],
            f"PSNR on changed pixels at least {LEAST_GAIN_DB:g} dB above copy-last",
            LEAST_GAIN_DB,
        ),
    )
    actions = (
        _delta(figures["delta_psnr_4_player_db"]),
        _agreement(figures["code_swap_agreement"]),
        _leakage(figures["leakage_r2"]),
    )
    return Verdict("frame tokens", tokens), Verdict("actions", actions)


_ASKED = (
    "reconstruction_psnr_db",
    "reconstruction_changed_psnr_db",
    "delta_psnr_4_player_db",
    "code_swap_agreement",
    "leakage_r2",
)


def _above_copy_last(figure: Figure | None, asked: str, least_db: float) -> Criterion:
    ours = None if figure is None else figure.estimate.value
    theirs = None if figure is None or "copy_last_frame" not in figure.baselines else _copy_last(figure)
    if ours is None or theirs is None:
        return Criterion(asked, "no PSNR was measured", None)
    gain, where = ours - theirs, " on changed pixels" if least_db else ""
    side = "above" if gain >= 0 else "below"
    met = gain > 0 if not least_db else gain >= least_db
    return Criterion(asked, f"the PSNR{where} is {abs(gain):.2f} dB {side} copy-last", met)


def _copy_last(figure: Figure) -> float | None:
    return figure.baselines["copy_last_frame"].value


def _delta(figure: Figure | None) -> Criterion:
    asked = f"ΔPSNR₄ in the player's box at least {LEAST_DELTA_DB:g} dB, its interval above 0"
    if figure is None or figure.estimate.value is None:
        return Criterion(asked, "ΔPSNR₄ in the player's box was not measured", None)
    value, low = figure.estimate.value, figure.estimate.low
    found = f"ΔPSNR₄ in the player's box is {format_value(value, 'dB')}"
    if value >= LEAST_DELTA_DB and low is None:
        return Criterion(asked, f"{found}, but has no interval to say how surely", None)
    return Criterion(asked, found, value >= LEAST_DELTA_DB and low is not None and low > 0)


def _agreement(figure: Figure | None) -> Criterion:
    text = "swapped codes move the player the same way in"
    asked = f"{text} at least {format_value(LEAST_AGREEMENT, '%')}"
    if figure is None or figure.estimate.value is None:
        return Criterion(asked, "code swaps were not measured", None)
    value = figure.estimate.value
    return Criterion(asked, f"{text} {format_value(value, '%')}", value >= LEAST_AGREEMENT)


def _leakage(figure: Figure | None) -> Criterion:
    """A leak that was seen is one; that none was seen says nothing where the probe would not have seen it."""
    text = "the R² of the player's place read from the codes is"
    asked = (
        f"{text} at most {MOST_LEAKAGE:g}, by a probe fitted on at least {LEAST_PROBE_STEPS:,} steps "
        "that reads clearly more from the player's cell"
    )
    if figure is None or figure.estimate.value is None:
        return Criterion(asked, "leakage was not measured", None)
    value = figure.estimate.value
    found = f"{text} {format_value(value, '')}"
    if value > MOST_LEAKAGE:
        return Criterion(asked, found, False)
    if _would_see_a_leak(figure):
        return Criterion(asked, found, True)
    return Criterion(asked, f"{found}, but too little data to say that nothing more can be read", None)


def _would_see_a_leak(figure: Figure) -> bool:
    """Whether the probe had enough steps, and reads clearly more than `MOST_LEAKAGE` from the cell of the player."""
    cells = figure.references.get("cell_probe")
    enough = figure.num_fitted is not None and figure.num_fitted >= LEAST_PROBE_STEPS
    return enough and cells is not None and cells.low is not None and cells.low > MOST_LEAKAGE


def listed(parts: Sequence[str]) -> str:
    """One, two and three."""
    return ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]
