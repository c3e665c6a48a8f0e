"""Charts say what they are given, in the page's colours and without anything that could clash or leak."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from lapa_ray.evaluation.charts import (
    MAX_POINTS,
    Interval,
    Series,
    dot_chart,
    interval_chart,
    line_chart,
    usage_chart,
)
from lapa_ray.evaluation.images import code_matrix, error_heat, png_data_uri
from lapa_ray.evaluation.training_charts import training_charts


def lines(**options: object) -> str:
    x = np.arange(1, 6)
    series = [Series("model", x, x / 10, x / 12, x / 8), Series("copy-last", x, np.full(5, 0.3))]
    return line_chart(series, title="Accuracy & more", x_label="horizon", y_label="accuracy", **options)


@pytest.mark.parametrize(
    "svg",
    [
        lines(percent=True),
        usage_chart(np.arange(20), title="t", x_label="codes", y_label="share"),
        dot_chart([("a", [1.0, 2.0]), ("b", [3.0]), ("none", [])], title="t", x_label="score"),
        interval_chart([Interval("a", 1.0, 0.5, 2.0), Interval("b", None, None, None)], title="t", x_label="bits"),
    ],
)
def test_charts_parse_and_take_all_their_colours_from_the_page(svg: str) -> None:
    root = ET.fromstring(svg)
    assert root.attrib["role"] == "img"
    assert not re.findall(r"#[0-9a-f]{6}", svg)
    assert "var(--series-1)" in svg
    assert "http" not in svg


def test_a_chart_names_its_lines_axes_and_itself() -> None:
    svg = lines(percent=True)
    for text in ("model", "copy-last", "horizon", "accuracy", "50 %"):
        assert f">{text}</text>" in svg
    assert 'aria-label="Accuracy &amp; more"' in svg


def test_intervals_say_what_was_not_measured_and_start_at_zero() -> None:
    rows = [Interval("a long name of a dataset, directory", 0.31, 0.3, 0.32), Interval("other", None, None, None)]
    svg = interval_chart(rows, title="t", x_label="", percent=True)
    for text in ("other", "not measured", "0 %", "32 %"):
        assert f">{text}</text>" in svg
    assert "a long name of a" in svg
    assert "a long name of a dataset, directory</text>" not in svg  # it is broken into lines
    many = interval_chart([Interval(str(i), i, None, None) for i in range(9)], title="t", x_label="")
    assert many.count("var(--series-1)") >= 2  # colours begin again


def test_charts_are_the_same_every_time_and_their_ids_differ() -> None:
    assert lines() == lines()
    other = line_chart([Series("a", [1, 2], [1, 2])], title="Other", x_label="x", y_label="y")
    assert not set(re.findall(r' id="([^"]+)"', lines())) & set(re.findall(r' id="([^"]+)"', other))


def test_long_series_are_thinned_and_gaps_are_kept_out() -> None:
    steps = np.arange(50_000)
    values = np.where(steps % 7 == 0, np.nan, np.sin(steps / 5000))
    svg = line_chart([Series("loss", steps, values)], title="t", x_label="x", y_label="y")
    assert len(svg) < 40_000
    path = max(re.findall(r'd="(M [^"]+)"', svg), key=len)
    assert path.count("L") <= MAX_POINTS


def test_error_heat_is_black_where_nothing_differs_and_lightest_at_the_end_of_the_scale() -> None:
    true = np.zeros((1, 3, 3), dtype=np.uint8)
    predicted = true.copy()
    predicted[0, 1], predicted[0, 2] = 96, 255
    heat = error_heat(predicted, true)[0].astype(int).sum(axis=-1)
    assert heat[0] < 10
    assert heat[1] == heat[2] > 600


def test_png_is_lossless_and_code_matrix_is_by_position() -> None:
    import base64

    import cv2

    rgb = np.random.default_rng(0).integers(0, 256, size=(7, 5, 3), dtype=np.uint8)
    data = base64.b64decode(png_data_uri(rgb).removeprefix("data:image/png;base64,"))
    decoded = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(decoded, rgb)
    matrix = code_matrix(np.array([[8, 0], [4, 4]])).astype(int).sum(axis=-1)
    assert matrix[0, 0] > matrix[1, 0] == matrix[1, 1] > matrix[0, 1]


def test_training_charts_show_what_the_log_has_and_name_what_it_has_not() -> None:
    rows = [{"step": s, "train_loss": 1 / (s + 1), "val_loss": None} for s in range(5)]
    charts, missing = training_charts("vqvae", rows, "updates")
    assert [chart.title for chart in charts] == ["Loss"]
    assert ">training</text>" not in charts[0].svg  # one line needs no legend
    assert "Perplexity" in missing
