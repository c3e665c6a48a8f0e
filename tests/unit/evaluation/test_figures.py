"""Verdicts say what the numbers say, and values are written with their units."""

from __future__ import annotations

import pytest

from lapa_ray.evaluation.estimates import Estimate
from lapa_ray.evaluation.figures import (
    BASELINES,
    REFERENCES,
    Evaluation,
    Figure,
    FigureGroup,
    describe_verdict,
    format_interval,
    format_value,
)


def estimate(value: float | None, low: float | None = None, high: float | None = None) -> Estimate:
    return Estimate(value=value, low=low, high=high, num_episodes=5, num_samples=5)


def figure(ours: Estimate, better: str = "higher", **baselines: Estimate) -> Figure:
    return Figure(name="x_db", label="X", unit="dB", better=better, estimate=ours, baselines=baselines)


@pytest.mark.parametrize(
    ("ours", "theirs", "better", "verdict"),
    [
        (estimate(3.0), estimate(2.0), "higher", "ahead"),
        (estimate(3.0), estimate(2.0), "lower", "below"),
        (estimate(1.0), estimate(2.0), "lower", "ahead"),
        (estimate(2.0), estimate(2.0), "higher", "equal"),
        (estimate(3.0, 1.0, 5.0), estimate(2.0, 1.5, 2.5), "higher", "overlaps"),
        (estimate(3.0, 2.8, 5.0), estimate(2.0, 1.5, 2.5), "higher", "beats"),
        (estimate(1.0, 0.5, 1.9), estimate(2.0, 1.5, 2.5), "lower", "overlaps"),
        (estimate(None), estimate(2.0), "higher", "none"),
        (estimate(3.0), estimate(None), "higher", "none"),
        (estimate(3.0), estimate(2.0), "neither", "none"),
    ],
)
def test_verdict(ours: Estimate, theirs: Estimate, better: str, verdict: str) -> None:
    assert figure(ours, better, copy_last_frame=theirs).verdict() == verdict


def test_the_hardest_baseline_counts() -> None:
    both = {"copy_last_frame": estimate(28.0), "median_frame": estimate(20.0)}
    assert figure(estimate(25.0), "higher", **both).best_baseline() == "copy_last_frame"
    assert figure(estimate(25.0), "lower", **both).best_baseline() == "median_frame"
    assert describe_verdict(figure(estimate(25.0), "higher", **both)) == "Below the baseline: copy-last frame."


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (28.123, "dB", "28.12 dB"),
        (0.8766, "%", "87.7 %"),
        (1234.5, "points", "1,234 points"),
        (0.9871, "", "0.987"),
        (130.25, "codes", "130.2"),
        (64.0, "codes", "64"),
        (-1.5, "dB", "−1.50 dB"),
        (None, "dB", "not measured"),
    ],
)
def test_values_carry_their_units(value: float | None, unit: str, text: str) -> None:
    assert format_value(value, unit) == text


def test_what_is_neither_good_nor_bad_is_not_judged() -> None:
    text = describe_verdict(figure(estimate(1.0), "neither", copy_last_frame=estimate(2.0)))
    assert text == "Not judged: neither way is better."


def test_intervals_are_written_without_their_unit() -> None:
    assert format_interval(estimate(2.0, 1.5, 2.5), "dB") == "1.50 to 2.50"
    assert format_interval(estimate(0.5, 0.25, 0.75), "%") == "25.0 to 75.0"
    assert format_interval(estimate(2.0), "dB") == ""


def test_the_manifest_gets_every_value_and_survives_json() -> None:
    one = figure(estimate(3.0), copy_last_frame=estimate(2.0))
    group = FigureGroup(name="g", title="G", data="d", figures=(one,))
    evaluation = Evaluation(game="MsPacman", held_out_episodes=(4,), num_held_out_steps=9, groups=(group,))
    assert Evaluation.model_validate_json(evaluation.model_dump_json()) == evaluation
    assert evaluation.manifest_figures() == {
        "num_held_out_episodes": 1,
        "num_held_out_steps": 9,
        "x_db": 3.0,
        "x_db_copy_last_frame": 2.0,
    }
    assert evaluation.figure("x_db") == one
    assert evaluation.figure("y") is None


def test_no_two_baselines_or_references_are_called_the_same_or_are_one_thing() -> None:
    names = BASELINES | REFERENCES
    assert len(names) == len(BASELINES) + len(REFERENCES) == len(set(names.values()))
    assert [key for key in REFERENCES if key.startswith("true")] == ["true_codes", "true_frame"]
