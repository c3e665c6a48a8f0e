"""The replay buffer against a naive list of whole transitions: n steps, any chunks of interleaved streams, lost lives,
truncations, eviction, first priorities, and states that go on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lapa_ray.replay.buffer import ReplayBuffer, ReplayConfig, build_replay
from lapa_ray.replay.chunk import Chunk
from lapa_ray.replay.rate_limiter import RateLimiter
from lapa_ray.replay.samplers import MIN_PRIORITY
from lapa_ray.replay.transitions import TransitionStore

SHAPE = (2, 3)
SPARE = 64
GAMMA = 0.5
BATCH_SIZE = 16
MAX_STREAMS = 3
MAX_AGE = SPARE * 3 // 4
"""Frames of others after which a silent stream's last frames are copied to the new end, as `TransitionStore` says."""
KINDS = st.lists(st.sampled_from("ssssslre"), min_size=1, max_size=20)
"""Rows of one stream: r a reset, s a step, l a step that is terminal for learning alone (a lost life: no reset
follows), e a step that terminates (a reset follows)."""

MOSTLY = st.sampled_from([True, True, False])

Window = list[tuple[int, int]]
"""(number, place in the ring) of each frame, oldest first; the place counts up and is −1 for a frame that is gone."""


@dataclass
class Waiting:
    """A step whose n steps are not over."""

    window: Window
    action: int
    chosen_q: float
    rewards: list[float] = field(default_factory=list)


@dataclass
class Stream:
    """What is known of a stream: the stack that its player sees, and the steps that wait."""

    stack: Window
    waiting: list[Waiting] = field(default_factory=list)

    @property
    def frames(self) -> Window:
        return sorted({frame for window in (self.stack, *(w.window for w in self.waiting)) for frame in window})

    def rename(self, places: dict[int, int]) -> None:
        for window in (self.stack, *(waiting.window for waiting in self.waiting)):
            window[:] = [(number, places.get(number, -1)) for number, _ in window]


@dataclass
class Transition:
    window: list[int]
    oldest_place: int
    action: int
    reward: float
    discount: float
    td_error: float


class ReplayMachine(RuleBasedStateMachine):
    """Each frame holds its own number, so that a window can be compared number by number."""

    @initialize(
        capacity=st.integers(5, 40),
        stack=st.integers(1, 4),
        n_step=st.integers(1, 4),
        kind=st.sampled_from(["uniform", "prioritised", "first priorities told"]),
    )
    def make(self, capacity: int, stack: int, n_step: int, kind: str) -> None:
        self.config = ReplayConfig(
            capacity=capacity, min_size=1, spare_frames=SPARE, n_step=n_step, actor_priorities="told" in kind
        )
        self.stack, self.use_per = stack, kind != "uniform"
        self.buffer, self.limiter = self._build()
        self.truth: dict[int, Transition] = {}
        self.streams: dict[int, Stream] = {}
        self.frame = self.place = self.next_id = self.num_skipped = 0
        self.max_priority = 1.0

    def _build(self) -> tuple[ReplayBuffer, RateLimiter]:
        self.generator = np.random.default_rng(0)
        buffer = build_replay(
            self.config,
            frame_stack=self.stack,
            use_per=self.use_per,
            generator=self.generator,
            gamma=GAMMA,
            shape=SHAPE,
        )
        return buffer, RateLimiter(samples_per_insert=8, min_size=1, error_buffer=100)

    @rule(stream=st.integers(0, MAX_STREAMS - 1), kinds=KINDS, begins=st.booleans(), tells_q=MOSTLY)
    def add(self, stream: int, kinds: list[str], begins: bool, tells_q: bool) -> None:
        """A stream that begins without a reset is one whose worker's first chunk was lost."""
        rows = ["r"] if begins and stream not in self.streams else []
        for kind in kinds:
            rows += ["e", "r"] if kind == "e" else [kind]
        before = self.next_id
        chunk = self._chunk(stream, rows, tells_q)
        num_steps = self.buffer.add([chunk])
        assert num_steps == chunk.num_steps == sum(kind != "r" for kind in rows)
        self.limiter.count_inserts(num_steps)
        self._check_first_priorities(before)

    def _chunk(self, stream: int, kinds: list[str], tells_q: bool) -> Chunk:
        numbers = np.arange(self.frame, self.frame + len(kinds))
        self.frame += len(kinds)
        part = min(self.config.capacity - self.config.n_step + 1, MAX_AGE)
        known = self.streams.setdefault(stream, Stream([(-1, -1)] * self.stack))
        for row, (kind, number) in enumerate(zip(kinds, numbers.tolist(), strict=True)):
            if row % part == 0:
                self._renew(known)
            self._note(known, kind, number, tells_q)
        starts = np.array([kind == "r" for kind in kinds])
        return Chunk(
            stream,
            np.stack([_picture(number) for number in numbers]),
            starts,
            numbers % 7,
            numbers.astype(np.float32),
            np.array([kind in "el" for kind in kinds]),
            max_q=_max_q(numbers).astype(np.float32) if tells_q else None,
            chosen_q=np.where(starts, 0, _chosen_q(numbers)).astype(np.float32) if tells_q else None,
        )

    def _renew(self, stream: Stream) -> None:
        """Give the frames of a stream that was silent for long the places of their copies."""
        known = [place for _, place in stream.frames if place >= 0]
        if not known or min(known) >= self.place - MAX_AGE:
            return
        oldest = max(self.place - self.config.capacity - SPARE, 0)
        held = [number for number, place in stream.frames if place >= oldest]
        if not held:
            stream.stack, stream.waiting = [(-1, -1)] * self.stack, []
        stream.rename({number: self.place + index for index, number in enumerate(held)})
        self.place += len(held)

    def _note(self, stream: Stream, kind: str, number: int, tells_q: bool) -> None:
        place, self.place = self.place, self.place + 1
        if kind == "r":
            stream.stack, stream.waiting = [(number, place)] * self.stack, []
            return
        chosen_q = float(_chosen_q(number)) if tells_q else np.nan
        stream.waiting.append(Waiting(list(stream.stack), number % 7, chosen_q))
        stream.stack = [*stream.stack, (number, place)][1:]
        for waiting in stream.waiting:
            waiting.window.append((number, place))
            waiting.rewards.append(float(number))
        is_terminal = kind in "el"
        ended = [w for w in stream.waiting if is_terminal or len(w.rewards) == self.config.n_step]
        stream.waiting = [w for w in stream.waiting if w not in ended]
        for waiting in ended:
            self._emit(waiting, is_terminal, float(_max_q(number)) if tells_q else np.nan)

    def _emit(self, ended: Waiting, is_terminal: bool, max_q: float) -> None:
        if any(place < 0 for _, place in ended.window):
            self.num_skipped += 1
            return
        n = self.config.n_step
        reward = sum(GAMMA**index * reward for index, reward in enumerate(ended.rewards))
        discount = 0.0 if is_terminal else GAMMA**n
        ahead = 0.0 if is_terminal else discount * max_q
        numbers = [number for number, _ in ended.window]
        numbers += numbers[-1:] * (self.stack + n - len(numbers))
        td_error = abs(reward + ahead - ended.chosen_q)
        transition = Transition(numbers, ended.window[0][1], ended.action, reward, discount, td_error)
        self.truth[self.next_id] = transition
        self.next_id += 1

    def _check_first_priorities(self, first: int) -> None:
        """The TD error that the actor told, if that is asked for; else the greatest priority seen before."""
        tail, head = self.buffer.store.tail, self.buffer.store.head
        if not self.use_per:
            return
        told = [self.truth[index].td_error for index in range(max(first, tail), head)]
        known = [self.config.actor_priorities and np.isfinite(error) for error in told]
        expected = [
            error + MIN_PRIORITY if is_known else self.max_priority
            for error, is_known in zip(told, known, strict=True)
        ]  # fmt: skip
        sampler: Any = self.buffer._sampler
        slots = np.arange(max(first, tail), head) % self.config.capacity
        np.testing.assert_allclose(sampler._tree.get(slots), np.array(expected) ** self.config.alpha, rtol=1e-5)
        self.max_priority = max([self.max_priority, *expected])

    @precondition(lambda self: self.limiter.allowed_samples(len(self.buffer)) > 0)
    @rule(beta=st.floats(0, 1))
    def sample(self, beta: float) -> None:
        count = min(BATCH_SIZE, self.limiter.allowed_samples(len(self.buffer)))
        batch = self.buffer.sample(count, beta)
        self.limiter.count_samples(count)
        assert np.all(batch.weights > 0)
        assert float(batch.weights.max()) <= 1 + 1e-6
        n = self.config.n_step
        for row, index in enumerate(batch.ids):
            truth = self.truth[int(index)]
            pictures = np.stack([_picture(number) for number in truth.window])
            np.testing.assert_array_equal(batch.windows[row], pictures)
            np.testing.assert_array_equal(batch.obs_tm1[row], pictures[: self.stack])
            np.testing.assert_array_equal(batch.obs_t[row], pictures[n:])
            assert (batch.actions[row], batch.rewards[row]) == (truth.action, np.float32(truth.reward))
            assert batch.discounts[row] == np.float32(truth.discount)

    @rule(ids=st.lists(st.integers(0, 200), max_size=8, unique=True), error=st.floats(0, 100))
    def update(self, ids: list[int], error: float) -> None:
        """Priorities of ids that are gone, or never were, are dropped."""
        self.buffer.update_priorities(np.array(ids, dtype=np.int64), np.full(len(ids), error, dtype=np.float32))
        if any(self.buffer.store.tail <= index < self.buffer.store.head for index in ids):
            self.max_priority = max(self.max_priority, float(np.float32(error)) + MIN_PRIORITY)

    @rule()
    def save_and_load(self) -> None:
        """What took over the state goes on alike, and shares no memory with what gave it."""
        old, old_generator, limiter = self.buffer, self.generator, self.limiter
        self.buffer, self.limiter = self._build()
        self.buffer.set_state(old.get_state())
        self.limiter.set_state(limiter.get_state())
        self.generator.bit_generator.state = old_generator.bit_generator.state
        assert self.limiter.get_state() == limiter.get_state()
        if len(self.buffer):
            told = [one.sample(BATCH_SIZE, 0.5) for one in (old, self.buffer)]
            for name in ("ids", "windows", "weights", "rewards", "discounts"):
                np.testing.assert_array_equal(getattr(told[0], name), getattr(told[1], name))
        ones = np.ones(self.config.capacity, dtype=np.int64)
        frames = np.full((len(ones), *SHAPE), 255, dtype=np.uint8)
        old.add([Chunk(0, frames, ones == 0, ones, ones.astype(np.float32), ones == 1)])

    @invariant()
    def holds_the_newest(self) -> None:
        self.buffer.check_valid()
        self.limiter.check_valid()
        assert self.buffer.store.head == self.next_id
        assert self.buffer.store.num_skipped == self.num_skipped
        assert len(self.buffer) <= self.config.capacity

    @invariant()
    def drops_nothing_early(self) -> None:
        """What went last went for want of room, or because a frame of its own was overwritten."""
        tail = self.buffer.store.tail
        if tail and len(self.buffer) < self.config.capacity:
            assert self.truth[tail - 1].oldest_place < self.place - self.config.capacity - SPARE


def _picture(number: int) -> np.ndarray:
    picture = np.zeros(SHAPE, dtype=np.uint8)
    picture[0] = (number % 256, number // 256 % 256, number // 65536)
    return picture


def _max_q(number: Any) -> Any:
    return number % 5 - 1.5


def _chosen_q(number: Any) -> Any:
    return number % 3 * 0.25


TestReplay = ReplayMachine.TestCase
TestReplay.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@settings(max_examples=60, deadline=None)
@given(
    n_step=st.integers(1, 7),
    stack=st.integers(1, 5),
    kinds=st.lists(st.sampled_from("sssssslr"), min_size=1, max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
def test_where_chunks_are_cut_changes_nothing(n_step: int, stack: int, kinds: list[str], cuts: list[int]) -> None:
    count = len(kinds)
    numbers = np.arange(count)
    columns = (
        np.broadcast_to(numbers.astype(np.uint8)[:, None], (count, 1)),
        np.array([kind == "r" for kind in kinds]),
        numbers,
        np.cos(numbers).astype(np.float32),
        np.array([kind == "l" for kind in kinds]),
        np.sin(numbers).astype(np.float32),
        np.tan(numbers).astype(np.float32),
    )
    at_once, in_parts = (TransitionStore(100, stack, (1,), n_step=n_step, gamma=0.9) for _ in range(2))
    td_errors = at_once.append([Chunk(0, *columns)])
    bounds = [0, *sorted(min(cut, count) for cut in cuts), count]
    parts = [slice(*bound) for bound in pairwise(bounds)]
    told = [in_parts.append([Chunk(0, *(column[part] for column in columns))]) for part in parts]
    np.testing.assert_array_equal(np.concatenate(told), td_errors)
    for whole, joined in zip(*(store.gather(np.arange(store.head)) for store in (at_once, in_parts)), strict=True):
        np.testing.assert_array_equal(whole, joined)
