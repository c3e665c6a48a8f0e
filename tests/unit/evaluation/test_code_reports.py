"""Where codes answer to motion, the map of their vectors, what they are good for, and how the page says so."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from lapa_ray.core.errors import LapaError
from lapa_ray.evaluation.code_activity import CodeMap, code_activity, code_map
from lapa_ray.evaluation.code_exhibits import CodeExhibits, SwapPictures
from lapa_ray.evaluation.event_lift import Answer, EventRow
from lapa_ray.evaluation.figures import Evaluation, Figure, FigureGroup
from lapa_ray.evaluation.latent_verdict import verdicts
from lapa_ray.evaluation.page import render_page
from tests.support.report_sources import drawn_evaluation, drawn_exhibits, drawn_sources, estimate


def test_activity_is_how_often_a_code_is_not_the_commonest_on_still_and_on_moving_pairs() -> None:
    codes = np.zeros((100, 3), dtype=np.int16)
    changed = np.arange(100)
    codes[90:, 1] = 7  # answers to the most motion alone
    codes[::2, 2] = 5  # to nothing
    found = code_activity(codes, np.array([0, 0, 0]), changed)
    assert found.still == pytest.approx([0, 0, 0.5], abs=0.03)
    assert found.moving == pytest.approx([0, 10 / 26, 0.5], abs=0.03)
    assert found.num_pairs.tolist() == [25, 26]
    assert found.pixels.tolist() == [24, 74]


def test_still_pairs_are_all_alike_where_nothing_tells_them_apart() -> None:
    found = code_activity(np.array([[1], [1], [2]]), np.array([1]), np.zeros(3, np.int64))
    assert found.still == found.moving == pytest.approx([1 / 3])


def clustered_vectors() -> np.ndarray:
    generator = np.random.default_rng(0)
    centres = 20 * np.eye(3, 8)
    return (np.repeat(centres, 10, axis=0) + generator.normal(size=(30, 8))).astype(np.float32)


def test_the_map_keeps_neighbours_together() -> None:
    counts = np.zeros((2, 30), dtype=np.int64)
    counts[1, :10], counts[0, 10:20] = 4, 1
    found = code_map(clustered_vectors(), counts, seed=0)
    assert found is not None
    distances = np.linalg.norm(found.points[:, None] - found.points, axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (distances.argmin(axis=1) // 10 == np.arange(30) // 10).all()
    assert found.trust > 0.8
    assert found.positions.tolist() == [1] * 10 + [0] * 10 + [-1] * 10
    assert found.counts.tolist() == [4] * 10 + [1] * 10 + [0] * 10


def test_there_is_no_map_of_a_few_vectors() -> None:
    assert code_map(clustered_vectors()[:8], np.ones((1, 8), np.int64), 0) is None


def drawn_codes(grid: tuple[int, int] = (7, 5)) -> CodeExhibits:
    generator, places = np.random.default_rng(0), np.array([[3, 4], [3, 9]])
    activity = code_activity(generator.integers(0, 3, (60, grid[0] * grid[1])), np.zeros(1, int), np.arange(60))
    points = generator.normal(size=(40, 2))
    mapped = CodeMap(points, np.arange(40), np.arange(40)[::-1], np.arange(40) % (grid[0] * grid[1]) - 1, 0.9)
    pictures = np.stack([np.full((12, 9, 3), level, np.uint8) for level in (40, 90)])
    swaps = SwapPictures(np.array([[4, 0], [1, -3]]), places, places[::-1], *[pictures] * 4)
    return CodeExhibits.of(grid, activity, mapped, swaps)


def test_code_exhibits_survive_the_file_and_damage_is_named(tmp_path: Path) -> None:
    path, drawn = tmp_path / "codes.npz", drawn_codes()
    drawn.save(path)
    loaded = CodeExhibits.load(path)
    for field in fields(CodeExhibits):
        assert np.array_equal(getattr(loaded, field.name), getattr(drawn, field.name))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(LapaError, match=r"codes\.npz: damaged"):
        CodeExhibits.load(path)
    path.unlink()
    with pytest.raises(LapaError, match=r"codes\.npz: missing, as in evaluations of earlier versions; make"):
        CodeExhibits.load(path)


def figure(name: str, value: float | None, unit: str = "", **baselines: float) -> Figure:
    beside = {key: estimate(theirs) for key, theirs in baselines.items()}
    return Figure(name=name, label=name, unit=unit, better="higher", estimate=estimate(value), baselines=beside)


def evaluated(*figures: Figure) -> Evaluation:
    base = drawn_evaluation()
    group = FigureGroup(name="latent_actions", title="Latent actions", data="32 films.", figures=figures)
    return base.model_copy(update={"groups": (*base.groups, group)})


def leak(value: float, cells: float = 0.6, spread: float | None = 0.1, num_fitted: int | None = 1000) -> Figure:
    """What a probe fitted on `num_fitted` steps reads from codes, and from the player's cell."""
    found = figure("leakage_r2", value, mean_place=0.0)
    return found.model_copy(update={"references": {"cell_probe": estimate(cells, spread)}, "num_fitted": num_fitted})


DELTA = figure("delta_psnr_4_player_db", 4.0, "dB", random_codes=0.0)
ACTIONS = (
    DELTA.model_copy(update={"estimate": estimate(4.0, 1.0)}),
    figure("code_swap_agreement", 0.9, "%", random_codes=0.3),
    leak(0.1),
)


def test_actions_are_good_where_every_threshold_is_met() -> None:
    tokens, actions = verdicts(evaluated(*ACTIONS))
    assert actions.sentence == (
        "These codes are good as actions: ΔPSNR₄ in the player's box is 4.00 dB, swapped codes move the player the "
        "same way in 90.0 % and the R² of the player's place read from the codes is 0.100."
    )
    assert "not good as frame tokens" in tokens.sentence
    assert "2.09 dB below copy-last" in tokens.sentence


def test_what_fails_is_named_and_what_was_not_measured_is_not_met() -> None:
    _, actions = verdicts(evaluated(*ACTIONS[:2], leak(0.8)))
    assert actions.sentence == (
        "These codes are not good as actions: the R² of the player's place read from the codes is 0.800."
    )
    _, unknown = verdicts(evaluated(ACTIONS[0], ACTIONS[2]))
    assert unknown.sentence == "Whether these codes are good as actions cannot be told: code swaps were not measured."


def sentence_of(*figures: Figure) -> str:
    return verdicts(evaluated(*figures))[1].sentence


def test_a_delta_psnr_without_an_interval_meets_nothing_but_a_low_one_fails() -> None:
    assert sentence_of(DELTA, *ACTIONS[1:]) == (
        "Whether these codes are good as actions cannot be told: ΔPSNR₄ in the player's box is 4.00 dB, but has no "
        "interval to say how surely."
    )
    low = DELTA.model_copy(update={"estimate": estimate(0.5)})
    assert "not good as actions: ΔPSNR₄ in the player's box is 0.50 dB." in sentence_of(low, *ACTIONS[1:])
    wide = DELTA.model_copy(update={"estimate": estimate(4.0, 5.0)})
    assert "not good as actions: ΔPSNR₄" in sentence_of(wide, *ACTIONS[1:])


@pytest.mark.parametrize(
    "blind",
    [leak(0.005, num_fitted=75), leak(0.005, num_fitted=None), leak(0.005, cells=0.3), leak(0.005, spread=None)],
)
def test_a_probe_that_could_see_no_leak_clears_no_codes(blind: Figure) -> None:
    assert sentence_of(*ACTIONS[:2], blind) == (
        "Whether these codes are good as actions cannot be told: the R² of the player's place read from the codes is "
        "0.005, but too little data to say that nothing more can be read."
    )
    seen = blind.model_copy(update={"estimate": estimate(0.7)})
    assert "not good as actions: the R²" in sentence_of(*ACTIONS[:2], seen)


def test_the_page_shows_swaps_events_activity_and_verdicts() -> None:
    answers = (Answer(code=17, lift=6.25, num_with_event=20, num_steps=40),)
    rows = (
        EventRow(event="dot eaten", num_events=40, num_steps=500, answers=answers, chance_lift=2.0),
        EventRow(event="death", num_events=3, num_steps=500, answers=(), chance_lift=None),
    )
    evaluation = evaluated(*ACTIONS).model_copy(update={"events": rows})
    html = render_page(drawn_sources(), evaluation, drawn_exhibits(21, 16), "now", codes=drawn_codes())
    assert "<b>17: 6.2 (20, 40)</b>" in html
    assert "too rare: fewer than 10 steps" in html
    assert "A&#39;s player goes 4 px right" in html or "A's player goes 4 px right" in html
    assert "goes 3 px up" in html
    assert "These codes are good as actions" in html
    assert "Still pairs: 15, in which at most 14 pixels change" in html
    assert "Trustworthiness 0.90" in html
    bare = render_page(drawn_sources(), drawn_evaluation(), drawn_exhibits(21, 16), "now")
    assert "cannot be told: ΔPSNR₄ in the player&#39;s box was not measured" in bare
    assert "Which codes answer" not in bare


def test_the_map_of_a_single_token_has_one_cell() -> None:
    exhibits = drawn_codes((1, 1))
    html = render_page(drawn_sources(), drawn_evaluation(), drawn_exhibits(21, 16), "now", codes=exhibits)
    assert html.count(" %</td></tr>") == 2
