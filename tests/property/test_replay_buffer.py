"""The replay buffer against a naive list of whole transitions: interleaved streams, episode ends, eviction, resume."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lapa_ray.replay.buffer import ReplayConfig, build_replay
from lapa_ray.replay.chunk import Chunk

SHAPE = (2, 3)
STACK = 3
SPARE = 64
NUM_STREAMS = 3


MAX_AGE = SPARE // 2
"""Frames of others after which a stream that was silent has lost its past, as `TransitionStore` promises."""


class ReplayMachine(RuleBasedStateMachine):
    """Each frame holds its own number, which is its id too, so that a window can be compared number by number."""

    @initialize(capacity=st.integers(5, 40), use_per=st.booleans())
    def make(self, capacity: int, use_per: bool) -> None:
        self.config = ReplayConfig(capacity=capacity, min_size=1, spare_frames=SPARE)
        self.use_per = use_per
        self.buffer = self._build()
        self.truth: dict[int, tuple[list[int], int, float, bool]] = {}
        self.windows: dict[int, list[int]] = {}
        self.frame = 0
        self.next_id = 0
        self.num_skipped = 0

    def _build(self) -> Any:
        generator = np.random.default_rng(0)
        return build_replay(self.config, frame_stack=STACK, use_per=self.use_per, generator=generator, shape=SHAPE)

    @rule(stream=st.integers(0, NUM_STREAMS - 1), kinds=st.lists(st.sampled_from("ssssre"), min_size=1, max_size=12))
    def add(self, stream: int, kinds: list[str]) -> None:
        """Rows of one stream: r a reset, s a step, e a step that terminates (and a reset follows)."""
        rows = [] if stream in self.windows else [("r", 0)]
        for kind in kinds:
            rows += [("e", 1), ("r", 0)] if kind == "e" else [(kind, 1 if kind == "s" else 0)]
        chunk = self._chunk(stream, [kind for kind, _ in rows])
        assert self.buffer.add([chunk]) == chunk.num_steps

    def _chunk(self, stream: int, kinds: list[str]) -> Chunk:
        numbers = list(range(self.frame, self.frame + len(kinds)))
        part = min(self.config.capacity, MAX_AGE)
        for row, (kind, number) in enumerate(zip(kinds, numbers, strict=True)):
            self._note(stream, kind, number, part_start=self.frame + row - row % part)
        self.frame += len(kinds)
        frames = np.stack([_picture(number) for number in numbers])
        return Chunk(
            stream,
            frames,
            np.array([kind == "r" for kind in kinds]),
            np.array(numbers, dtype=np.int64) % 7,
            np.array(numbers, dtype=np.float32),
            np.array([kind == "e" for kind in kinds]),
        )

    def _note(self, stream: int, kind: str, number: int, part_start: int) -> None:
        if kind == "r":
            self.windows[stream] = [number] * STACK
            return
        window = [*self.windows[stream], number]
        self.windows[stream] = window[1:]
        if window[0] < part_start - MAX_AGE:
            self.num_skipped += 1
            return
        self.truth[self.next_id] = (window, number % 7, float(number), kind == "e")
        self.next_id += 1

    @precondition(lambda self: len(self.buffer) > 0)
    @rule(beta=st.floats(0, 1))
    def sample(self, beta: float) -> None:
        batch = self.buffer.sample(16, beta)
        assert np.all(batch.weights > 0)
        assert float(batch.weights.max()) <= 1 + 1e-6
        for row, transition in enumerate(batch.ids):
            window, action, reward, terminated = self.truth[int(transition)]
            np.testing.assert_array_equal(batch.windows[row], np.stack([_picture(number) for number in window]))
            assert (batch.actions[row], batch.rewards[row], batch.terminated[row]) == (action, reward, terminated)

    @rule(ids=st.lists(st.integers(0, 200), max_size=8, unique=True), error=st.floats(0, 100))
    def update(self, ids: list[int], error: float) -> None:
        """Priorities of ids that are gone, or never were, are dropped."""
        self.buffer.update_priorities(np.array(ids, dtype=np.int64), np.full(len(ids), error, dtype=np.float32))

    @rule()
    def save_and_load(self) -> None:
        state = self.buffer.get_state()
        self.buffer = self._build()
        self.buffer.set_state(state)

    @invariant()
    def holds_the_newest(self) -> None:
        self.buffer.check_valid()
        assert self.buffer.store.head == self.next_id
        assert self.buffer.store.num_skipped == self.num_skipped
        assert len(self.buffer) <= self.config.capacity

    @invariant()
    def drops_nothing_early(self) -> None:
        """What went last went for want of room, or because a frame of its own was overwritten."""
        tail = self.buffer.store.tail
        if tail and len(self.buffer) < self.config.capacity:
            oldest_held_frame = self.frame - self.config.capacity - SPARE
            assert self.truth[tail - 1][0][0] < oldest_held_frame


def _picture(number: int) -> np.ndarray:
    picture = np.zeros(SHAPE, dtype=np.uint8)
    picture[0] = (number % 256, number // 256 % 256, number // 65536)
    return picture


TestReplay = ReplayMachine.TestCase
TestReplay.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
