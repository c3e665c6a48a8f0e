"""What a sweep's settings are good for, frame tokens or actions: figures and the thresholds of one VQ-VAE → sentences.

Knows neither pages nor trainings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lapa_ray.evaluation.latent_verdict import (
    LEAST_AGREEMENT,
    LEAST_DELTA_DB,
    LEAST_GAIN_DB,
    LEAST_PROBE_STEPS,
    MOST_LEAKAGE,
    listed,
)
from lapa_ray.evaluation.sweep_results import Setting

CHANGED, DELTA, STILL = "changed_psnr_db", "delta_changed_psnr_db", "delta_still_psnr_db"
SWAP, RANDOM_SWAP, FOUND = "code_swap_agreement", "random_swap_agreement", "code_swap_found"
LEAKAGE, MOVEMENT = "leakage_r2", "movement_r2"
PROBE_STEPS, CELL_LEAKAGE = "leakage_probe_steps", "cell_leakage_r2_low"
"""How many steps the probe was fitted on, and the low end of the interval of what it reads from the player's cell."""
TOKEN_FIGURES = ("psnr_db", "copy_last_psnr_db", CHANGED, f"copy_last_{CHANGED}")


def uses_sentence(settings: Sequence[Setting]) -> str:
    """Which settings are good as frame tokens and which as actions, of those that have a whole training."""
    whole = [setting for setting in settings if setting.num_whole]
    return " ".join(filter(None, (_tokens(_told(whole, TOKEN_FIGURES)), _actions(whole))))


def _tokens(settings: Sequence[Setting]) -> str:
    if not settings:
        return ""
    good = [setting for setting in settings if _is_token(setting.means)]
    best = max(settings, key=lambda setting: setting.means[CHANGED])
    return (
        f"Good as frame tokens, with a PSNR above copy-last and on changed pixels at least {LEAST_GAIN_DB:g} dB above "
        f"it: {_names(good)}. What changes is rebuilt best by {best.words} ({best.means[CHANGED]:.4g} dB)."
    )


def _actions(settings: Sequence[Setting]) -> str:
    swapped, without = _told(settings, (SWAP,)), [setting.words for setting in settings if SWAP not in setting.means]
    if not swapped:
        return _by_delta(_told(settings, (DELTA, STILL)))
    good = [setting for setting in swapped if _is_action(setting.means)]
    unknown = [setting.words for setting in good if not _would_see_a_leak(setting.means)]
    best = max(swapped, key=lambda setting: setting.means[SWAP])
    beside = f", random ones in {_percent(best.means[RANDOM_SWAP])}" if RANDOM_SWAP in best.means else ""
    return (
        f"Good as actions, whose codes move the player alike beside another frame in at least "
        f"{_percent(LEAST_AGREEMENT)}, with a leakage R² of at most {MOST_LEAKAGE:g} and a ΔPSNR₁ on changed pixels of "
        f"at least {LEAST_DELTA_DB:g} dB: {_names([setting for setting in good if setting.words not in unknown])}. "
        f"Codes of {best.words} move it alike most often, in {_percent(best.means[SWAP])}{beside}."
        + (f" Of {listed(unknown)} too little data tells what codes say of the place." if unknown else "")
        + (f" No swaps were measured of {listed(without)}." if without else "")
    )


def _by_delta(settings: Sequence[Setting]) -> str:
    """Without swaps: what random codes cost where nothing moves counts against the codes, for they bring more than what
    moves; and so does what random codes do that stillness good.
    """
    if not settings:
        return ""
    most = max(settings, key=lambda setting: setting.means[DELTA] - abs(setting.means[STILL]))
    return (
        f"No code swaps were measured. Beyond what it is on still pixels, ΔPSNR₁ on changed ones is highest with codes "
        f"of {most.words} ({most.means[DELTA]:.3g} against {most.means[STILL]:.3g} dB)."
    )


def _is_token(means: Mapping[str, float]) -> bool:
    gain = means[CHANGED] - means[f"copy_last_{CHANGED}"]
    return means["psnr_db"] > means["copy_last_psnr_db"] and gain >= LEAST_GAIN_DB


def _is_action(means: Mapping[str, float]) -> bool:
    """What was not measured is not met."""
    clean, acts = means.get(LEAKAGE, 1.0) <= MOST_LEAKAGE, means.get(DELTA, 0.0) >= LEAST_DELTA_DB
    return means[SWAP] >= LEAST_AGREEMENT and clean and acts


def _would_see_a_leak(means: Mapping[str, float]) -> bool:
    """Whether the probe had enough steps, and reads clearly more from the cell of the player than is allowed."""
    return means.get(PROBE_STEPS, 0) >= LEAST_PROBE_STEPS and means.get(CELL_LEAKAGE, 0.0) > MOST_LEAKAGE


def _told(settings: Sequence[Setting], names: Sequence[str]) -> list[Setting]:
    return [setting for setting in settings if set(names) <= set(setting.means)]


def _names(settings: Sequence[Setting]) -> str:
    return listed([setting.words for setting in settings]) if settings else "none"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
