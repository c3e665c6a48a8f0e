"""The report's part on codes: what they are good for, where they answer, which answers what → context of the template.

Everything shown comes from the evaluation. Knows no model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from lapa_ray.evaluation.charts import MARKERS, MUTED, SERIES, Interval, add_legend, chart, interval_chart, name_axes
from lapa_ray.evaluation.code_activity import ACTIVITY_RULE
from lapa_ray.evaluation.code_exhibits import SWAP_RULE, CodeExhibits
from lapa_ray.evaluation.event_lift import MIN_EVENTS, MIN_SUPPORT
from lapa_ray.evaluation.figures import BASELINES, REFERENCES, Evaluation, Figure
from lapa_ray.evaluation.images import png_data_uri
from lapa_ray.evaluation.latent_verdict import verdicts

AS_TOKENS = (
    "reconstruction_psnr_db",
    "reconstruction_changed_psnr_db",
    "codes_perplexity",
    "codes_conditional_entropy_bits",
    "leakage_r2",
)
AS_ACTIONS = (
    "delta_psnr_4_db",
    "delta_psnr_4_player_db",
    "code_swap_agreement",
    "code_swap_error_px",
    "movement_r2",
    "leakage_r2",
)
MAP_HEIGHT, LARGEST_POINT = 4.2, 160.0
WAYS = {(1, 0): "right", (-1, 0): "left", (0, 1): "down", (0, -1): "up"}


def shown_codes(evaluation: Evaluation, exhibits: CodeExhibits | None) -> dict[str, Any]:
    """What `latent_parts.html.j2` shows; without `exhibits` the figures alone."""
    tokens, actions = verdicts(evaluation)
    return {
        "columns": [
            ("As frame tokens", tokens, _measured(evaluation, AS_TOKENS)),
            ("As actions", actions, _measured(evaluation, AS_ACTIONS)),
        ],
        "charts": _charts(evaluation),
        "events": evaluation.events,
        "min_events": MIN_EVENTS,
        "min_support": MIN_SUPPORT,
        "activity": None if exhibits is None else _activity(exhibits),
        "activity_rule": ACTIVITY_RULE,
        "map": None if exhibits is None else _map(exhibits),
        "swaps": [] if exhibits is None else _swaps(exhibits),
        "swap_rule": SWAP_RULE,
    }


def _measured(evaluation: Evaluation, names: tuple[str, ...]) -> list[Figure]:
    found = (evaluation.figure(name) for name in names)
    return [figure for figure in found if figure is not None]


def _charts(evaluation: Evaluation) -> list[tuple[str, Markup]]:
    """Code swaps beside their baselines, and ΔPSNR of picture and box; those that were measured."""
    made = []
    if (swap := evaluation.figure("code_swap_agreement")) is not None:
        title = "Code swap: the player goes the way of the code"
        made.append(
            (title, Markup(interval_chart(_rows(swap), title=title, x_label="share of swaps, per cent", percent=True)))
        )
    for name, title in (
        ("delta_psnr_4_db", "ΔPSNR₄ of the whole picture"),
        ("delta_psnr_4_player_db", "ΔPSNR₄ in the player's box"),
    ):
        if (figure := evaluation.figure(name)) is not None:
            made.append((title, Markup(interval_chart(_rows(figure), title=title, x_label="dB above random codes"))))
    return made


def _rows(figure: Figure) -> list[Interval]:
    named = {"inferred codes": figure.estimate}
    named |= {BASELINES[key]: estimate for key, estimate in figure.baselines.items()}
    named |= {REFERENCES[key]: estimate for key, estimate in figure.references.items()}
    return [Interval(name, estimate.value, estimate.low, estimate.high) for name, estimate in named.items()]


def _activity(exhibits: CodeExhibits) -> list[dict[str, Any]]:
    columns = int(exhibits.grid[1])
    named = (("Still pairs", exhibits.activity_still), ("Moving pairs", exhibits.activity_moving))
    words = ("at most {:,} pixels change", "at least {:,} pixels change")
    return [
        {
            "name": name,
            "rows": [shares[i : i + columns].tolist() for i in range(0, len(shares), columns)],
            "pairs": int(exhibits.activity_pairs[number]),
            "words": words[number].format(int(exhibits.activity_pixels[number])),
        }
        for number, (name, shares) in enumerate(named)
    ]


def _map(exhibits: CodeExhibits) -> dict[str, Any] | None:
    if not len(exhibits.map_trust):
        return None
    return {"svg": Markup(_map_chart(exhibits)), "trust": float(exhibits.map_trust[0])}


def _map_chart(exhibits: CodeExhibits) -> str:
    """Codes as points, larger the more often they are used, coloured by where in the grid they mostly stand."""
    rows, columns = exhibits.grid.tolist()
    row = exhibits.map_positions // columns
    third = np.where(exhibits.map_positions < 0, -1, row * 3 // rows)
    names = ("upper third", "middle third", "lower third") if rows >= 3 else ("used",)
    with chart("Code vectors by t-SNE", height=MAP_HEIGHT) as (figure, axes, svg):
        groups = [(name, third == number if rows >= 3 else third >= 0) for number, name in enumerate(names)]
        for number, (name, chosen) in enumerate([*groups, ("never used", third < 0)]):
            colour = MUTED if name == "never used" else SERIES[number]
            sizes = _sizes(exhibits.map_counts, chosen)
            points = exhibits.map_points[chosen]
            if len(points):
                axes.scatter(
                    points[:, 0], points[:, 1], s=sizes, c=colour, marker=MARKERS[number], alpha=0.7, linewidths=0,
                    label=name,
                )  # fmt: skip
        name_axes(axes, "", "")
        axes.set_xticks([])
        axes.set_yticks([])
        add_legend(figure, axes, 4)
    return svg.text


def _sizes(counts: NDArray[np.int64], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Areas: as the root of the count, so that rare codes are seen beside frequent ones."""
    return 8 + LARGEST_POINT * np.sqrt(counts[chosen] / max(int(counts.max()), 1))


def _swaps(exhibits: CodeExhibits) -> list[dict[str, Any]]:
    return [
        {
            "way": _way(*exhibits.swap_moved[i].tolist()),
            "a": exhibits.swap_a[i].tolist(),
            "b": exhibits.swap_b[i].tolist(),
            "pictures": [
                ("A: true frame t", png_data_uri(exhibits.swap_a_before[i])),
                ("A: true frame t+1", png_data_uri(exhibits.swap_a_after[i])),
                ("B: true frame t", png_data_uri(exhibits.swap_b_before[i])),
                ("A's codes beside B's frame t", png_data_uri(exhibits.swap_decoded[i])),
            ],
        }
        for i in range(len(exhibits.swap_moved))
    ]


def _way(right: int, down: int) -> str:
    across = abs(right) >= abs(down)
    length = abs(right) if across else abs(down)
    way = WAYS[(int(np.sign(right)), 0) if across else (0, int(np.sign(down)))]
    return f"{length} px {way}"
