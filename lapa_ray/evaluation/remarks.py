"""Remarks: plain sentences that follow from the figures, so that the summary and the limits say what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lapa_ray.core.artefact import Manifest
from lapa_ray.envs.ms_pacman import GHOSTS
from lapa_ray.evaluation.estimates import MIN_EPISODES_FOR_INTERVAL
from lapa_ray.evaluation.figures import Evaluation, Figure

ONE_SEED = "Every model was trained once, with one seed: how far another seed would lie from it was not measured."
ONE_POLICY = (
    "The held-out episodes were played by the same policies in the same game as the training episodes; nothing is "
    "said of other policies or games."
)
NAMES = ("Ms. Pac-Man", *(ghost.capitalize() for ghost in GHOSTS))
NOT_SUMMARISED = ("reconstruction_parts",)
"""Groups of figures that are not held out."""
MOST_LABELS = 8
"""A sentence names no more figures than this."""
SMALL_SPRITES = (
    "PSNR and SSIM over all pixels hardly see small sprites, as most of a picture stands still. What moves is seen by "
    "the figures on changed pixels and changed tokens."
)


def summary_sentence(figures: Iterable[Figure]) -> str:
    """How many figures beat the hardest of their baselines, and by name those that do not.

    Those beside a constant grid alone are left out: any codes that vary at all are better than that.
    """
    groups: dict[str, list[Figure]] = {}
    for figure in figures:
        if figure.best_baseline() != "constant_grid":
            groups.setdefault(figure.verdict(), []).append(figure)
    compared = sum(len(part) for verdict, part in groups.items() if verdict != "none")
    if compared == 0:
        return "Nothing could be compared with a baseline."
    parts = [f"Of {compared} figures beside a trivial baseline, {_count(groups)}."]
    for verdict, text in (
        ("overlaps", "Better, but with overlapping intervals"),
        ("equal", "Level with the baseline"),
        ("below", "Below the baseline"),
    ):
        if verdict in groups:
            parts.append(f"{text}: {_labels(groups[verdict])}.")
    return " ".join(parts)


def _count(groups: dict[str, list[Figure]]) -> str:
    beats, ahead = (len(groups.get(verdict, [])) for verdict in ("beats", "ahead"))
    if not ahead:
        return f"{beats} beat it"
    return f"{beats} beat it and {ahead} are better on too few episodes for an interval"


def choice_remark(models: Sequence[str]) -> str:
    """Whose best checkpoint was chosen on the episodes that are measured on."""
    if not models:
        return "The held-out episodes are a test part: no model was trained and no checkpoint was chosen on them."
    return (
        f"Of the {' and of the '.join(models)} the checkpoint with the least loss on held-out episodes was kept, "
        "and these are among them: on episodes that had no part in that choice the figures may be a little worse; a "
        "split 80/10/10 keeps such."
    )


def limits(evaluation: Evaluation) -> list[str]:
    """What the figures do not say."""
    episodes = _episodes_limit(len(evaluation.held_out_episodes))
    return [ONE_SEED, episodes, ONE_POLICY, SMALL_SPRITES, *evaluation.facts.values()]


def mixed_versions(manifests: Sequence[Manifest]) -> str:
    """Packages of which the artefacts were made with several versions, as text; empty if there is none."""
    versions: dict[str, set[str]] = {}
    for manifest in manifests:
        for name, version in manifest.versions.items():
            versions.setdefault(name, set()).add(version)
    return "; ".join(f"{name} {' and '.join(sorted(found))}" for name, found in versions.items() if len(found) > 1)


def _episodes_limit(count: int) -> str:
    if count < MIN_EPISODES_FOR_INTERVAL:
        return (
            f"The models were measured on {count} held-out episode{'s' if count > 1 else ''}: too few to say how much "
            "episodes differ, so no interval is given."
        )
    return f"The models were measured on {count} held-out episodes; intervals resample these."


def _labels(figures: Sequence[Figure]) -> str:
    labels = [_in_sentence(figure.label) for figure in figures]
    if len(labels) > MOST_LABELS:
        labels = [*labels[: MOST_LABELS - 1], f"{len(labels) - MOST_LABELS + 1} more"]
    return ", ".join(labels[:-1]) + (" and " if len(labels) > 1 else "") + labels[-1]


def _in_sentence(label: str) -> str:
    """`label` without its capital, unless it starts with an abbreviation, a symbol or a name."""
    keeps = label[1:2].isupper() or not label[1:2].isalpha() or label.startswith(NAMES)
    return label if keeps else label[0].lower() + label[1:]
