"""States of everything in a training run: taken, given to a successor, and fit to go on from, whoever died before.

The loop is driven as the supervisor drives it, without Ray: rollouts and updates as the limiter allows them; a worker,
the server, the learner or the driver dies at any time. Whatever happened, the run must end with just the updates that
its steps earn, made from transitions of one episode each.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lapa_ray.actors.episode_blocks import EpisodeBlocks
from lapa_ray.actors.learner import Learner, LearnerConfig
from lapa_ray.actors.policy import to_weights
from lapa_ray.actors.replay_server import ReplayServer, ReplayStatus
from lapa_ray.actors.rollout_worker import RolloutWorker
from lapa_ray.actors.run_log import Counters, RunLog
from lapa_ray.models.q_network import QNetwork, QNetworkConfig
from lapa_ray.replay.buffer import ReplayConfig
from lapa_ray.replay.chunk import Batch
from lapa_ray.replay.rate_limiter import RateLimiter
from tests.support.counter_env import NUM_ACTIONS, CounterEnv
from tests.support.local_training import ONE_THREAD, LocalSource
from tests.support.probe import GAMMA, check_batch
from tests.support.states import assert_same

NETWORK = QNetworkConfig(channels=(2, 2, 2), hidden=4, frame_stack=2)
WEIGHTS = to_weights(QNetwork(NUM_ACTIONS, NETWORK))
LENGTH, NUM_ENVS, SEED = 7, 2, 3
CAPACITY, MIN_SIZE, SAMPLES_PER_INSERT, BATCH_SIZE = 40, 20, 2, 4
NUM_STEPS = 80
NUM_UPDATES = SAMPLES_PER_INSERT * (NUM_STEPS - MIN_SIZE) // BATCH_SIZE
MAX_ROUNDS = 6


class CheckedSource(LocalSource):
    """Batches of whole transitions alone."""

    def batches(self, num_updates_done: int, count: int) -> Iterator[Batch]:
        for batch in super().batches(num_updates_done, count):
            check_batch(batch, LENGTH)
            yield batch


CLOCKS = frozenset({"seconds"})
"""They go on."""


class RunMachine(RuleBasedStateMachine):
    """A run of one worker, and what it keeps for those who die."""

    @initialize(use_per=st.booleans())
    def begin(self, use_per: bool) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.use_per = use_per
        self.counters, self.log = Counters(), RunLog()
        self.blocks = self._new_blocks()
        self.server = self._new_server()
        self.learner = self._new_learner()
        self.copy = self.learner.get_state()
        self.checkpoint: dict[str, Any] | None = None
        self.given: set[int] = set()
        self._new_worker()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self._finish()
            self.folder.cleanup()

    def _new_blocks(self) -> EpisodeBlocks:
        return EpisodeBlocks(Path(self.folder.name) / "blocks.json")

    def _new_server(self) -> ReplayServer:
        config = ReplayConfig(
            capacity=CAPACITY, min_size=MIN_SIZE, samples_per_insert=SAMPLES_PER_INSERT, spare_frames=64
        )
        return ReplayServer(
            config, frame_stack=NETWORK.frame_stack, use_per=self.use_per, batch_size=BATCH_SIZE,
            num_updates=NUM_UPDATES, seed=SEED, max_waiting_steps=2 * NUM_ENVS * MAX_ROUNDS, gamma=GAMMA,
        )  # fmt: skip

    def _new_learner(self) -> Learner:
        config = LearnerConfig(batch_size=BATCH_SIZE, target_update_period_updates=5)
        return Learner(NUM_ACTIONS, NETWORK, config, ONE_THREAD, SEED, CheckedSource(self.server))

    def _new_worker(self) -> None:
        blocks = self.blocks.take(NUM_ENVS)
        assert self.given.isdisjoint(blocks), "a block twice"
        self.given |= set(blocks)
        self.worker = RolloutWorker(partial(CounterEnv, LENGTH), blocks, NETWORK, SEED, self.server.insert)

    def _num_steps_left(self, status: ReplayStatus) -> int:
        extra = status.num_extra_inserts if self.counters.num_updates < NUM_UPDATES else 0
        return NUM_STEPS + extra - self.counters.num_steps

    def _allowed_rounds(self) -> int:
        status = self.server.status(self.counters.num_updates)
        rounds = min(-(-self._num_steps_left(status) // NUM_ENVS), MAX_ROUNDS)
        if self.counters.num_updates < NUM_UPDATES:
            rounds = min(rounds, status.allowed_inserts // NUM_ENVS)
        return int(rounds)

    @rule(rounds=st.integers(1, MAX_ROUNDS))
    def play(self, rounds: int) -> None:
        if (rounds := min(rounds, self._allowed_rounds())) > 0:
            stats = self.worker.play(WEIGHTS, 1.0, rounds)
            self.counters.num_steps += stats.num_steps
            self.counters.num_episodes += len(stats.episodes)
            self.log.note_rollout(stats)

    @rule(count=st.integers(1, 8))
    def learn(self, count: int) -> None:
        allowed = self.server.status(self.counters.num_updates).allowed_batches
        if (count := min(count, allowed, NUM_UPDATES - self.counters.num_updates)) > 0:
            report = self.learner.train(count)
            self.log.note_updates(count, report.metrics)
            self.counters.num_updates = report.num_updates

    @rule()
    def copy_the_learner(self) -> None:
        self.copy = self.learner.get_state()

    @rule()
    def save(self) -> None:
        self.copy = self.learner.get_state()
        parts = {"learner": self.copy, "server": self.server.get_state(), "log": self.log.get_state()}
        self.checkpoint = copy.deepcopy(parts) | {"counters": self.counters.as_dict()}

    @rule(delivered=st.booleans())
    def the_worker_dies(self, delivered: bool) -> None:
        """Before or after its rollout is in the buffer; nobody hears of it."""
        if (rounds := self._allowed_rounds()) > 0 and delivered:
            self.worker.play(WEIGHTS, 1.0, rounds)
        self._new_worker()

    @rule(is_kept=st.booleans())
    def the_server_dies(self, is_kept: bool) -> None:
        """`is_kept`: whether its snapshot is there."""
        last = self.server.status(self.counters.num_updates)
        self.server = self._new_server()
        if is_kept and self.checkpoint is not None:
            self.server.set_state(self.checkpoint["server"])
        self.server.go_on(last.counts, self.counters.num_steps, self.counters.num_updates)
        self.worker.connect(self.server.insert)
        self.learner.connect(CheckedSource(self.server))

    @rule(lost=st.integers(0, 3))
    def the_learner_dies(self, lost: int) -> None:
        """`lost`: updates of which nobody heard."""
        allowed = self.server.status(self.counters.num_updates).allowed_batches
        self.learner.train(min(lost, allowed)) if min(lost, allowed) else None
        self.learner = self._new_learner()
        self.learner.set_state(copy.deepcopy(self.copy))
        self.counters.num_redone_updates += self.counters.num_updates - self.learner.num_updates
        self.counters.num_updates = self.learner.num_updates

    @precondition(lambda self: self.checkpoint is not None)
    @rule(with_replay=st.booleans())
    def the_driver_dies(self, with_replay: bool) -> None:
        """All that is not on disk is gone."""
        saved = copy.deepcopy(self.checkpoint)
        self.counters, self.log = Counters(**saved["counters"]), RunLog()
        self.log.set_state(saved["log"])
        self.blocks, self.server = self._new_blocks(), self._new_server()
        if with_replay:
            self.server.set_state(saved["server"])
        else:
            limiter = saved["server"]["limiter"]
            self.server.go_on(limiter, self.counters.num_steps, self.counters.num_updates)
        self.learner = self._new_learner()
        self.learner.set_state(copy.deepcopy(saved["learner"]))
        self.copy = saved["learner"]
        self._new_worker()

    @rule()
    def everyone_hands_over(self) -> None:
        """A successor that is given a state is in that state."""
        server, learner, log, blocks = self._new_server(), self._new_learner(), RunLog(), self._new_blocks()
        limiter = RateLimiter(SAMPLES_PER_INSERT, MIN_SIZE, 0)
        limiter.set_state(self.server.get_state()["limiter"])
        limiter.check_valid()
        pairs = ((self.server, server), (self.learner, learner), (self.log, log), (self.blocks, blocks))
        for one, successor in pairs:
            state = copy.deepcopy(one.get_state())
            successor.set_state(state)
            successor.check_valid()
            assert_same(state, successor.get_state(), skipped=CLOCKS)
        self.server, self.learner, self.log, self.blocks = server, learner, log, blocks
        self.worker._send = server.insert  # nothing was lost between: streams go on
        learner.connect(CheckedSource(server))

    @invariant()
    def all_is_valid(self) -> None:
        for one in (self.server, self.learner, self.log, self.blocks, self.counters):
            one.check_valid()
        status = self.server.status(self.counters.num_updates)
        assert self.learner.num_updates == self.counters.num_updates
        assert status.num_inserts >= self.counters.num_steps

    def _finish(self) -> None:
        """Rollouts and updates until nothing is allowed: no update is missing, none is too many."""
        while True:
            before = self.counters.as_dict()
            self.play(MAX_ROUNDS)
            self.learn(8)
            if self.counters.as_dict() == before:
                break
        status = self.server.status()
        assert self.counters.num_updates == NUM_UPDATES
        num_extra = status.counts["free_inserts"] - MIN_SIZE
        assert NUM_STEPS <= self.counters.num_steps < NUM_STEPS + num_extra + NUM_ENVS


TestRun = RunMachine.TestCase
TestRun.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


def test_workers_that_died_after_they_had_delivered_do_not_keep_a_run_from_its_last_steps():
    """A case that Hypothesis found: all updates are made before all steps are counted."""
    run = RunMachine()
    run.begin(use_per=False)
    for _ in range(3):
        run.the_worker_dies(delivered=True)
        run.learn(8)
    run.all_is_valid()
    run.teardown()  # plays on to the end
