from collections import Counter

import pytest

from lapa_ray.actors.crew import Casting, Crew
from lapa_ray.actors.replay_server import ReplayStatus
from lapa_ray.actors.run_log import Counters
from lapa_ray.actors.supervisor import Plan, Supervisor
from lapa_ray.actors.worker_pool import _Rollout

PLAN = Plan(1000, 100, 10, 2, log_period_s=1.0, checkpoint_period_updates=50)


def supervisor(counters: Counters) -> Supervisor:
    """Its actors are not asked for anything here."""
    casting = Casting(*([lambda *_: object()] * 6))
    return Supervisor(PLAN, Crew(casting, copy_period_updates=20), lambda steps: 1.0, counters)


def test_a_resumed_run_goes_on_counting_who_died():
    counters = Counters(num_steps=200, num_updates=30, num_episodes=4, num_redone_updates=7)
    one = supervisor(counters)
    one._crew.server.num_lost, one._crew.learner.num_lost, one._crew.pool.num_lost = 1, 2, 3
    one._crew.pool._env_failures = Counter({1: 2})
    one.log.note_updates(5, {"loss": 2.0})
    state = one.get_state()
    other = supervisor(Counters(**state["counters"]))
    other.set_state(state)
    other.check_valid()
    now = other.get_state()
    assert now["log"].pop("seconds") >= state["log"].pop("seconds")
    assert now == state
    assert other._crew.pool.num_env_failures == 2


@pytest.mark.parametrize("spoil", ["counters", "deaths", "ages"])
def test_what_cannot_be_is_noticed(spoil):
    one = supervisor(Counters(num_steps=5))
    one.check_valid()
    if spoil == "counters":
        one.counters.num_episodes = 6
    elif spoil == "deaths":
        one._crew.learner.num_lost = -1
    else:
        one.counters.num_updates = 5000
        one._crew.pool._workers = [object()]
        one._crew.pool._rollouts["reference"] = _Rollout(index=0, num_steps=20, weights_update=10)
    with pytest.raises(AssertionError):
        one.check_valid()


def test_a_checkpoint_ends_a_row_so_that_a_resumed_run_writes_none_twice(monkeypatch):
    """A run that was killed after it had told what the checkpoint keeps untold would tell it again."""
    one, saved, written = supervisor(Counters(num_steps=100, num_updates=60)), [], []
    one.log.note_updates(5, {"loss": 2.0})
    for name in ("_start_what_is_allowed", "_under_way", "_collect", "_drain"):
        monkeypatch.setattr(one, name, lambda: "something")
    monkeypatch.setattr(one._crew.server, "ask", lambda *_: 0.5)
    one._last_saved_update = 0
    one._turn(
        lambda step, row: written.append((step, row["loss"])), lambda: saved.append(one.get_state()), lambda: None
    )
    assert written == [(100, 2.0)]
    assert (saved[0]["log"]["_num_updates"], saved[0]["log"]["_metrics"]) == (0, {})


class IdlePool:
    """One worker; what it is told to play."""

    has_idle, num_steps_under_way = True, 0

    def __init__(self) -> None:
        self.played: list[int] = []

    def play(self, weights, epsilon, rounds, num_steps, weights_update) -> None:
        self.played.append(num_steps)
        self.has_idle = False


@pytest.mark.parametrize(("num_updates", "expected"), [(99, []), (100, [20])])
def test_steps_wait_for_updates_as_long_as_there_are_any_to_make(num_updates, expected):
    one = supervisor(Counters(num_steps=500, num_updates=num_updates))
    one._weights, one._weights_update, one._crew.pool = "weights", 90, IdlePool()
    one._start_rollouts(ReplayStatus(600, 600, 0, 0, allowed_batches=0, allowed_inserts=0, counts={}))
    assert one._crew.pool.played == expected
