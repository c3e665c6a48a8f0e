"""The report page: self-contained, well formed, complete, and free of anything that was not measured."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from lapa_ray.evaluation.estimates import Estimate
from lapa_ray.evaluation.figures import Figure, FigureGroup, format_value
from lapa_ray.evaluation.page import render_page
from lapa_ray.evaluation.remarks import choice_remark, summary_sentence
from tests.support.report_sources import drawn_evaluation, drawn_exhibits, drawn_sources, estimate

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Outline(HTMLParser):
    """Checks nesting as it goes and keeps what the tests ask about."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"style", "script"}:
            self.text.append(data)


@pytest.fixture(scope="module")
def html() -> str:
    exhibits = drawn_exhibits(height=42, width=32)
    return render_page(drawn_sources(), drawn_evaluation(), exhibits, "21 November 2026, 02:00 UTC")


@pytest.fixture(scope="module")
def outline(html: str) -> Outline:
    parser = Outline()
    parser.feed(html)
    parser.close()
    return parser


def words(parser: Outline) -> str:
    return re.sub(r"\s+", " ", " ".join(parser.text))


def test_it_is_well_nested_and_its_links_lead_somewhere(outline: Outline) -> None:
    assert outline.open == []
    ids = [attributes["id"] for _, attributes in outline.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    links = {str(attributes["href"]) for tag, attributes in outline.tags if tag == "a"}
    assert links
    assert all(link.removeprefix("#") in ids for link in links)


def test_it_needs_nothing_from_outside(html: str, outline: Outline) -> None:
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html
    sources = [attributes["src"] for _, attributes in outline.tags if "src" in attributes]
    assert sources
    assert all(str(source).startswith("data:image/png;base64,") for source in sources)
    assert not [tag for tag, _ in outline.tags if tag in {"script", "link", "iframe"}]


def test_pictures_and_charts_have_a_text_and_headings_go_down_by_one(outline: Outline) -> None:
    assert all(attributes.get("alt") for tag, attributes in outline.tags if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in outline.tags if tag == "svg")
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_figure_stands_beside_its_baselines(outline: Outline) -> None:
    text, evaluation = words(outline), drawn_evaluation()
    for figure in (figure for group in evaluation.groups for figure in group.figures):
        assert figure.label in text
        for measured in (figure.estimate, *figure.baselines.values()):
            assert format_value(measured.value, figure.unit) in text
    assert "Below the baseline: copy-last codes." in text
    assert "Beats the baseline: random play." in text


def test_the_summary_names_what_is_below_its_baseline(outline: Outline) -> None:
    expected = "Of 5 figures beside a trivial baseline, 2 beat it. Below the baseline: PSNR, SSIM and teacher-forced"
    assert expected in words(outline)


def test_the_summary_tells_how_many_are_better_on_too_few_episodes() -> None:
    def drawn(ours: Estimate, baseline: str) -> Figure:
        baselines = {baseline: estimate(1.0)}
        return Figure(name="x", label="X", unit="", better="higher", estimate=ours, baselines=baselines)

    figures = [
        drawn(estimate(3.0, 0.5), "random"),
        drawn(estimate(3.0), "random"),
        drawn(estimate(2.0), "random"),
        drawn(estimate(9.0), "constant_grid"),  # any codes that vary are better: not counted
    ]
    assert summary_sentence(figures) == (
        "Of 3 figures beside a trivial baseline, 1 beat it and 2 are better on too few episodes for an interval."
    )


def test_every_artefact_can_be_walked_back(outline: Outline) -> None:
    text = words(outline)
    for source in drawn_sources():
        assert source.manifest.identity in text
        assert source.path in text
        for change in source.changes:
            assert change.key in text


def test_config_values_are_text_not_markup(html: str) -> None:
    assert "<script" not in html
    assert "alert(1)" in html


def test_the_kind_of_replay_is_named_and_missing_curves_are_said(outline: Outline) -> None:
    text = words(outline)
    assert "Training, prioritised replay (PER)" in text
    assert "Not measured in this run: Return of training episodes" in text


def test_nothing_is_invented_where_nothing_was_measured() -> None:
    evaluation = drawn_evaluation()
    nothing = Estimate(value=None, num_episodes=0, num_samples=0)
    groups = [
        group.model_copy(
            update={
                "figures": tuple(f.model_copy(update={"estimate": nothing, "baselines": {}}) for f in group.figures),
                "missing": f"No {group.name} here.",
            }
        )
        for group in evaluation.groups
    ]
    bare = evaluation.model_copy(update={"groups": tuple(groups), "curves": ()})
    empty = np.zeros(0)
    exhibits = replace(drawn_exhibits(42, 32), strip_start=np.zeros(0, dtype=np.int64), random_returns=empty)
    parser = Outline()
    parser.feed(render_page(drawn_sources()[1:2], bare, exhibits, "now"))
    text = words(parser)
    assert "Nothing could be compared with a baseline." in text
    assert "No world_model here." in text
    assert "No film strip" in text
    assert text.count("not measured") >= len(groups)
    assert not re.search(r"\d\.\d+ dB", text)


def test_entities_and_parts_have_a_table_and_parts_that_were_learnt_from_are_not_in_the_summary() -> None:
    def drawn(name: str, num_samples: int = 1000) -> Figure:
        ours = estimate(0.91, 0.01).model_copy(update={"num_samples": num_samples})
        baselines = {"copy_last_frame": estimate(0.24, 0.01)}
        return Figure(name=name, label=f"Of {name}", unit="%", better="higher", estimate=ours, baselines=baselines)

    evaluation = drawn_evaluation()
    added = (
        FigureGroup(
            name="entities", title="Entities", data="All.", figures=(drawn("player_recall_2px"), drawn("fruit", 0))
        ),
        FigureGroup(name="reconstruction_parts", title="Parts", data="Some.", figures=(drawn("train_psnr_db"),)),
    )
    shown = evaluation.model_copy(update={"groups": (*evaluation.groups, *added)})
    parser = Outline()
    parser.feed(render_page(drawn_sources(), shown, drawn_exhibits(42, 32), "now"))
    text = words(parser)
    assert "Of 7 figures beside a trivial baseline, 4 beat it." in text  # five and two entities
    assert text.count("Of player_recall_2px") == 3  # headline, entities, all figures
    assert text.count("Of fruit") == 1  # never seen: in the table of all figures alone
    assert text.count("Of train_psnr_db") == 2  # parts of the split, all figures
    links = [attributes["href"] for tag, attributes in parser.tags if tag == "a"]
    assert "#figure-player_recall_2px" in links


def test_a_sentence_names_few_figures_and_counts_the_others() -> None:
    figures = [
        Figure(name=f"x{i}", label=f"Figure {i}", unit="", better="higher", estimate=estimate(1.0, 0.1),
               baselines={"random": estimate(2.0)})
        for i in range(20)
    ]  # fmt: skip
    sentence = summary_sentence(figures)
    assert sentence.endswith("figure 5, figure 6 and 13 more.")


def test_a_sentence_keeps_the_capitals_of_names() -> None:
    figures = [
        Figure(name=label, label=label, unit="", better="higher", estimate=estimate(1.0, 0.1),
               baselines={"random": estimate(2.0)})
        for label in ("Ms. Pac-Man: found within 2 px", "Sue: position error", "Dots: F1", "SSIM")
    ]  # fmt: skip
    assert summary_sentence(figures).endswith("Ms. Pac-Man: found within 2 px, Sue: position error, dots: F1 and SSIM.")


def test_whose_checkpoint_was_chosen_on_the_held_out_episodes_is_said() -> None:
    assert "no checkpoint was chosen" in choice_remark([])
    assert choice_remark(["world model"]).startswith("Of the world model the checkpoint with the least loss")
