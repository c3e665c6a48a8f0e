import pytest

from lapa_ray.actors.rollout_worker import RolloutStats
from lapa_ray.actors.run_log import RunLog


def test_a_row_holds_means_since_the_last_row():
    log = RunLog()
    assert log.is_empty
    log.note_rollout(RolloutStats(10, [(100.0, 50), (300.0, 70)]))
    log.note_rollout(RolloutStats(10))
    log.note_updates(30, {"loss": 1.0})
    log.note_updates(10, {"loss": 3.0})
    row = log.take_row()
    assert (row["return"], row["episode_length"], row["loss"]) == (200.0, 60.0, 1.5)
    assert row["steps_per_s"] == pytest.approx(row["updates_per_s"] / 2)
    assert log.is_empty


def test_a_row_tells_the_age_of_the_oldest_weights():
    log = RunLog()
    for age in (3, 40, -2):  # weights of a learner that died are from a future that was lost
        log.note_rollout(RolloutStats(10), age)
    assert log.take_row()["weights_age_updates"] == 40
    log.note_rollout(RolloutStats(10), -2)
    assert log.take_row()["weights_age_updates"] == 0


def test_what_did_not_happen_is_not_in_the_row():
    log = RunLog()
    log.note_rollout(RolloutStats(10, [(100.0, 50)]))
    log.take_row()
    log.note_rollout(RolloutStats(10))
    row = log.take_row()
    assert set(row) == {"steps_per_s", "updates_per_s", "weights_age_updates"}
    assert row["updates_per_s"] == 0
    assert list(log.recent_returns) == [100.0]


def test_the_last_hundred_episodes_are_remembered():
    log = RunLog()
    for number in range(120):
        log.note_rollout(RolloutStats(1, [(float(number), 1)]))
    assert list(log.recent_returns) == [float(number) for number in range(20, 120)]
