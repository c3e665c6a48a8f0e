import numpy as np
import pytest

from lapa_ray.evaluation.learning_curves import METRICS, binned, bundle, final_value

BY_NAME = {metric.name: metric for metric in METRICS}
RETURN, LOSS, SPEED = BY_NAME["return"], BY_NAME["loss"], BY_NAME["updates_per_s"]


def row(step: int, episodes: int, updates: int, **values: float) -> dict:
    return {"step": step, "num_episodes": episodes, "num_updates": updates, **values}


ROWS = [
    row(10, 1, 0, **{"return": 100.0}),
    row(20, 1, 4, loss=2.0, updates_per_s=1.0),
    row(30, 4, 8, loss=4.0, updates_per_s=3.0, **{"return": 20.0}),
    row(42, 5, 20, loss=1.0, updates_per_s=8.0, **{"return": 60.0}),
]


def test_rows_weigh_as_many_episodes_or_updates_as_they_stand_for():
    assert final_value(ROWS, RETURN, after=0) == pytest.approx((100 + 3 * 20 + 60) / 5)
    assert final_value(ROWS, RETURN, after=20) == pytest.approx((3 * 20 + 60) / 4)
    assert final_value(ROWS, LOSS, after=10) == pytest.approx((4 * 2 + 4 * 4 + 12 * 1) / 20)
    assert final_value(ROWS, SPEED, after=0) == pytest.approx(4)
    assert final_value(ROWS, RETURN, after=42) is None
    assert final_value(ROWS[:1], LOSS, after=0) is None


def test_a_bin_holds_what_lies_between_its_edges_and_the_last_what_lies_beyond():
    curve = binned(ROWS, RETURN, np.array([0.0, 20, 40]))
    assert curve.steps.tolist() == [20, 40]
    assert curve.values.tolist() == [100, (3 * 20 + 60) / 4]
    assert binned(ROWS, LOSS, np.array([0.0, 10, 20, 30])).steps.tolist() == [20, 30]  # nothing until step 10


def test_a_bundle_has_the_interquartile_mean_of_its_runs_on_common_steps():
    runs = [[row(step, step, step, loss=height * step) for step in (10, 20, 30, 40)] for height in (1, 2, 3, 50)]
    found = bundle(runs, LOSS, num_steps=40)
    assert found.steps.tolist() == [10, 20, 30, 40]
    np.testing.assert_allclose(found.runs[2], [30, 60, 90, 120])
    np.testing.assert_allclose(found.middle, [25, 50, 75, 100])  # 1 and 50 are left out
    assert (found.low <= found.middle).all()
    assert (found.middle <= found.high).all()
    assert found.low[0] >= 10
    assert found.high[0] <= 500


def test_two_runs_have_no_band_and_gaps_are_crossed_but_not_left():
    runs = [[row(10, 1, 1, loss=1.0), row(20, 1, 2), row(30, 1, 3, loss=3.0), row(40, 1, 4)], ROWS]
    found = bundle(runs, LOSS, num_steps=40)
    np.testing.assert_allclose(found.runs[0], [1, 2, 3, np.nan])
    np.testing.assert_allclose(found.middle, [np.nan, 2, 3.5, np.nan])
    assert np.isnan(found.low).all()
    assert np.isnan(bundle([], LOSS, 40).middle).all()
