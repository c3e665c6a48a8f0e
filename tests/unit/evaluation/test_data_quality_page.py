"""The data page and the report's section: self-contained, well formed, and nothing on it that was not measured."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from lapa_ray.envs.mazes import maze_of
from lapa_ray.evaluation.data_quality import Measured
from lapa_ray.evaluation.data_quality_page import (
    HOT,
    WALL,
    coverage_picture,
    describe,
    not_measured,
    render_data_page,
)
from lapa_ray.evaluation.figures import format_interval, format_value
from lapa_ray.evaluation.page import render_page
from tests.support.measured_data import measured_data, tallied
from tests.support.report_sources import drawn_evaluation, drawn_exhibits, drawn_sources
from tests.unit.evaluation.test_data_quality_datasets import episodes
from tests.unit.evaluation.test_page import Outline, words

WHEN = "21 November 2026, 02:00 UTC"


@pytest.fixture(scope="module")
def measured() -> Measured:
    unread = [replace(episode, play=None) for episode in episodes("<i>random</i>")]
    return measured_data(
        tallied("frames_0", "runs/mix", [*episodes("random"), *episodes("planner", 4, first=3)]),
        tallied("frames_1", "runs/breakout", unread, game="Breakout"),
    )


def parse(html: str) -> Outline:
    parser = Outline()
    parser.feed(html)
    parser.close()
    return parser


@pytest.fixture(scope="module")
def outline(measured: Measured) -> Outline:
    return parse(render_data_page(measured, WHEN))


def test_it_is_well_nested_and_its_links_lead_somewhere(outline: Outline) -> None:
    assert outline.open == []
    ids = [attributes["id"] for _, attributes in outline.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    links = {str(attributes["href"]) for tag, attributes in outline.tags if tag == "a"}
    assert links
    assert all(link.removeprefix("#") in ids for link in links)


def test_it_needs_nothing_from_outside_and_names_are_text(measured: Measured, outline: Outline) -> None:
    html = render_data_page(measured, WHEN)
    assert not re.search(r"https?:|@import|<script|<i>", html)
    sources = [attributes["src"] for _, attributes in outline.tags if "src" in attributes]
    assert len(sources) == 3  # maps of the mix and of its two parts
    assert all(str(source).startswith("data:image/png;base64,") for source in sources)


def test_pictures_and_charts_have_a_text_and_headings_go_down_by_one(outline: Outline) -> None:
    assert all(attributes.get("alt") for tag, attributes in outline.tags if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in outline.tags if tag == "svg")
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_figure_of_every_dataset_is_there_or_said_to_be_missing(measured: Measured, outline: Outline) -> None:
    text = words(outline)
    for figure in measured.quality.figures:
        assert figure.label in text
        assert figure.meaning in text
        for dataset in measured.quality.datasets:
            if figure.name not in dataset.estimates:
                assert f"not measured: {dataset.missing[figure.name]}" in text
                continue
            estimate = dataset.estimates[figure.name]
            assert format_value(estimate.value, figure.unit) in text
            assert format_interval(estimate, figure.unit) in text
    for dataset in measured.quality.datasets:
        assert dataset.identity in text
        assert dataset.path in text


def test_the_terminal_gets_the_same_as_text(measured: Measured) -> None:
    rows = dict(describe(measured.quality))
    mixed = measured.quality.datasets[0].estimates["return_mean"]
    assert rows["Return, points"][0] == f"{mixed.value:,.0f} ({format_interval(mixed, 'points')})"
    assert rows["Episodes"] == ["7", "4", "3", "3"]
    assert rows["Frozen steps, %"][3] == "–"
    assert rows["Level reached"][0] == "1.000 (1.000 to 1.000)"
    lines = not_measured(measured.quality)
    assert "<i>random</i>: – is not measured: of MsPacman alone, not of Breakout" in lines


def test_nothing_is_invented_where_nothing_was_measured() -> None:
    unknown = [
        replace(episode, play=None, has_ram=False, actions=None, total_reward=None, lives_lost=None)
        for episode in episodes("imported", 1)
    ]
    text = words(parse(render_data_page(measured_data(tallied("frames", "import", unknown, game="unknown")), WHEN)))
    for said in ("no dataset has RAM whose meaning is known", "no dataset knows its actions", "not measured: no RAM"):
        assert said in text
    assert not re.search(r"\d+ points", text)


def test_a_coverage_picture_is_black_where_nobody_was_and_grey_in_walls() -> None:
    floor = maze_of(1).floor
    cells = np.flatnonzero(floor)
    steps = np.zeros(floor.size, dtype=np.int64)
    steps[cells[0]], steps[cells[1]] = 1, HOT * len(cells)
    picture = coverage_picture(steps, 1)
    assert picture.shape == (*floor.shape, 3)
    assert (picture[~floor] == WALL).all()
    flat = picture.reshape(-1, 3)[cells]
    assert (flat[2:] == flat[2]).all()
    assert flat[2].max() < 10
    assert 10 < flat[0].max() < 100
    assert flat[1].tolist() == [252, 255, 164]


def test_the_report_has_a_section_on_the_data_when_it_was_measured(measured: Measured) -> None:
    exhibits = drawn_exhibits(height=42, width=32)
    told = parse(render_page(drawn_sources(), drawn_evaluation(), exhibits, WHEN, measured))
    assert told.open == []
    assert {"href": "#data"} in [attributes for tag, attributes in told.tags if tag == "a"]
    text = words(told)
    assert "Where the player was" in text
    assert "Cells visited in any episode" in text
    assert format_value(measured.quality.datasets[0].estimates["return_mean"].value, "points") in text
    untold = parse(render_page(drawn_sources(), drawn_evaluation(), exhibits, WHEN))
    assert "data" not in [attributes.get("id") for _, attributes in untold.tags]
    assert "Where the player was" not in words(untold)
