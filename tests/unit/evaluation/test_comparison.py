import cv2
import numpy as np
import pytest

from lapa_ray.core.errors import LapaError
from lapa_ray.core.files import write_json
from lapa_ray.evaluation.comparison import FIGURES, Comparison
from lapa_ray.evaluation.comparison_page import comparison_panels, describe, render_comparison, verdict
from lapa_ray.evaluation.panels import write_panels
from tests.support.comparisons import compared, logs, quality
from tests.unit.evaluation.test_page import Outline


def test_each_replay_has_the_mean_the_interquartile_mean_and_an_interval_of_the_end():
    found = compared((10, 20, 30, 400), (100, 200, 300, 400))
    uniform, prioritised = (found.summaries[replay]["return"] for replay in ("uniform", "prioritised"))
    assert (uniform.mean.value, uniform.iqm.value) == (115, 25)
    assert prioritised.iqm.value == 250
    assert uniform.iqm.low < 25 < uniform.iqm.high
    assert found.improvements["return"].value == (3 * 4 + 0.5) / 16
    assert found.manifest_figures()["uniform_return_iqm"] == 25
    assert found.manifest_figures()["uniform_td_error_iqm"] is None


def test_a_failed_trial_is_counted_and_part_of_no_figure():
    found = compared((10, 20, 30), (1, 2, 3), failed="uniform_seed_2")
    assert found.summaries["uniform"]["return"].mean.value == 15
    assert found.summaries["uniform"]["return"].mean.low is None  # two are left
    assert found.manifest_figures()["num_failed_trials"] == 1
    page = render_comparison(found, {}, {}, "now")
    assert "1 of 6 trainings failed and are part of no figure" in page
    assert "the loss is nan &lt;b&gt;" in page


@pytest.mark.parametrize(
    ("uniform", "prioritised", "said"),
    [
        ((1, 2, 3), (10, 20, 30), "above the 2 (1 to 3) of uniform replay; their 95 % intervals over seeds are apart."),
        ((1, 2, 30), (3, 4, 5), "below the 11 (1 to 30) of uniform replay; their 95 % intervals over seeds overlap."),
        (
            (4,),
            (4,),
            (
                "level with the 4 of uniform replay; "
                "with fewer than 3 seeds to tell of it there is no interval to say how surely."
            ),
        ),
    ],
)
def test_one_sentence_tells_who_ended_higher_and_how_surely(uniform, prioritised, said):
    assert verdict(compared(uniform, prioritised)).endswith(said)


def test_the_gameplay_is_compared_too_and_stands_beside_random_play():
    values = {"uniform_seed_0": 50.0, "prioritised_seed_0": 80.0, "beside": 20.0}
    found = compared((1,), (2,), data=quality(values))
    assert found.summaries["prioritised"]["data_distinct_screens"].iqm.value == 80
    assert found.improvements["data_distinct_screens"].value == 1
    assert found.beside["random"]["data_distinct_screens"].model_dump() == {"value": 20, "low": 1, "high": 99}
    page = render_comparison(found, {}, {}, "now")
    assert "80 screens" in page
    assert "20 screens" in page
    assert "Not measured: the trainings kept no gameplay" in render_comparison(compared((1,), (2,)), {}, {}, "now")
    assert describe(found)[:2] == [("Seeds", "1", "1", ""), ("Return, points", "1", "2", "100.0")]


def test_all_curves_stand_in_one_picture_and_each_on_the_page(tmp_path):
    made = logs((10, 20, 30), (40, 50, 60))
    found = compared((10, 20, 30), (40, 50, 60))
    panels = comparison_panels(made, found, seed=0)
    curve = panels["return"].bundles["prioritised replay (PER)"]
    assert curve.middle[-1] == 50
    assert (curve.low[-1], curve.high[-1]) == (40, 60)
    page = render_comparison(found, panels, {"seed": 0}, "now")
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    links = {value for tag, attributes in outline.tags if tag == "a" and (value := attributes.get("href"))}
    assert links == {f"#{attributes['id']}" for tag, attributes in outline.tags if tag == "section"}
    assert page.count("<svg") == len(panels) == 9
    assert "var(--series-2)" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    write_panels(tmp_path / "all.png", list(panels.values()), "agent steps")
    picture = cv2.imread(str(tmp_path / "all.png"))
    assert picture.shape[1] > 1500
    for rgb in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):  # both replays are drawn
        assert (np.abs(picture[..., ::-1].astype(int) - rgb).max(axis=-1) < 8).sum() > 200


def test_figures_survive_the_file_and_damage_is_named(tmp_path):
    found = compared((10, 20, 30), (1, 2, 3), data=quality({"beside": 3.0}))
    write_json(tmp_path / FIGURES, found.model_dump(mode="json"))
    assert Comparison.load(tmp_path) == found
    (tmp_path / FIGURES).write_text("{}")
    with pytest.raises(LapaError, match=r"figures\.json: damaged \(Field required\); run compare-replay again"):
        Comparison.load(tmp_path)
