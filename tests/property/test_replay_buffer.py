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


MAX_AGE = SPARE * 3 // 4
"""Frames of others after which a silent stream's last frames are copied to the new end, as `TransitionStore` says."""

Window = list[tuple[int, int]]
"""(number, place in the ring) of each frame, oldest first; the place counts up and is −1 for a frame that is gone."""


class ReplayMachine(RuleBasedStateMachine):
    """Each frame holds its own number, so that a window can be compared number by number."""

    @initialize(capacity=st.integers(5, 40), use_per=st.booleans())
    def make(self, capacity: int, use_per: bool) -> None:
        self.config = ReplayConfig(capacity=capacity, min_size=1, spare_frames=SPARE)
        self.use_per = use_per
        self.buffer = self._build()
        self.truth: dict[int, tuple[Window, int, float, bool]] = {}
        self.windows: dict[int, Window] = {}
        self.frame = self.place = 0
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
            if row % part == 0 and stream in self.windows:
                self.windows[stream] = self._renewed(self.windows[stream])
            self._note(stream, kind, number)
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

    def _renewed(self, window: Window) -> Window:
        """The window with the places of its frames after a stream that was silent for long is copied."""
        if window[0][1] >= self.place - MAX_AGE or window[-1][1] < 0:
            return window
        oldest = self.place - self.config.capacity - SPARE
        held = sorted({number for number, place in window if place >= max(oldest, 0)})
        new = {number: self.place + index for index, number in enumerate(held)}
        self.place += len(held)
        return [(number, new.get(number, -1)) for number, _ in window]

    def _note(self, stream: int, kind: str, number: int) -> None:
        place, self.place = self.place, self.place + 1
        if kind == "r":
            self.windows[stream] = [(number, place)] * STACK
            return
        window = [*self.windows[stream], (number, place)]
        self.windows[stream] = window[1:]
        if window[0][1] < 0:
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
            np.testing.assert_array_equal(batch.windows[row], np.stack([_picture(number) for number, _ in window]))
            assert (batch.actions[row], batch.rewards[row], batch.discounts[row] == 0) == (action, reward, terminated)

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
            assert self.truth[tail - 1][0][0][1] < self.place - self.config.capacity - SPARE


def _picture(number: int) -> np.ndarray:
    picture = np.zeros(SHAPE, dtype=np.uint8)
    picture[0] = (number % 256, number // 256 % 256, number // 65536)
    return picture


TestReplay = ReplayMachine.TestCase
TestReplay.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
