"""Which codes answer an event: codes and events of the same steps → lifts, beside the lift that chance gives.

The lift of a code for an event is P(code | event) / P(code), where P(code) is the share of steps in whose grid the code
stands at any position: so it is asked alike of 35 tokens and of one. Only the steps in which the event could happen
count, in both: else every code of a standing game would answer none of what happens in play, and every other all of it.
With hundreds of codes some always seem to answer, so the events of each episode are also turned in a circle of these
steps by a random number of them (which keeps how many there are and how they cluster), and the greatest lift that this
gives is told beside the true ones. Knows no game.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.sparse import csr_matrix

from lapa_ray.core.seeds import generator_for

MIN_EVENTS, MIN_SUPPORT = 10, 5
"""An event that is rarer has no lifts; nor has a code that stood in fewer of its grids."""
NUM_ANSWERS, NUM_SHUFFLES, CHANCE_PERCENTILE = 3, 100, 95.0
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Answer(_Model):
    """A code that stands in the grid of an event more often than else."""

    code: int
    lift: float
    num_with_event: int
    """Steps with the event in whose grid the code stands."""
    num_steps: int
    """Steps in whose grid it stands, of those in which the event could happen."""


class EventRow(_Model):
    """One event, and the codes that answer it."""

    event: str
    num_events: int
    """Steps in which it happened."""
    num_steps: int
    """Steps in which it could happen: what was looked at."""
    answers: tuple[Answer, ...]
    """The greatest lifts, greatest first; empty where the event is too rare."""
    chance_lift: float | None
    """95th percentile of the greatest lift of any code, over events turned in a circle; None where there was none."""


class EventLifts:
    """Codes and events, gathered by episode."""

    def __init__(self, codebook_size: int) -> None:
        self._size = codebook_size
        self._grids: list[NDArray[np.integer]] = []
        self._events: list[dict[str, Flags]] = []
        self._possible: list[dict[str, Flags]] = []

    def update(self, codes: NDArray[np.integer], events: Mapping[str, Flags], possible: Mapping[str, Flags]) -> None:
        """Codes [T, positions] of one episode, and its events, each bool [T]; the same events in each episode.

        `possible`: by event the steps in which it could happen, bool [T]; no other is looked at.
        """
        self._grids.append(codes)
        self._events.append(dict(events))
        self._possible.append(dict(possible))

    def table(self, seed: int) -> tuple[EventRow, ...]:
        """A row an event."""
        if not self._events:
            return ()
        present = self._presence()
        return tuple(self._row(name, present, seed) for name in self._events[0])

    def _presence(self) -> csr_matrix:
        """Whether each code stands in the grid of each step, 0 or 1, [codes, steps]."""
        grids = np.concatenate(self._grids).astype(np.int64)
        steps, positions = grids.shape
        ones = np.ones(grids.size, dtype=np.float64)
        places = np.repeat(np.arange(steps), positions)
        counts = csr_matrix((ones, (grids.ravel(), places)), shape=(self._size, steps))
        counts.data[:] = 1.0  # the constructor has added up what stands twice in a grid
        return counts

    def _row(self, name: str, present: csr_matrix, seed: int) -> EventRow:
        possible = [steps[name] for steps in self._possible]
        happened = [events[name][steps] for events, steps in zip(self._events, possible, strict=True)]
        flags, present = np.concatenate(happened), present[:, np.flatnonzero(np.concatenate(possible))]
        num_events = int(flags.sum())
        row = EventRow(event=name, num_events=num_events, num_steps=len(flags), answers=(), chance_lift=None)
        if num_events < MIN_EVENTS:
            return row
        everywhere = np.asarray(present.sum(axis=1), dtype=np.float64).ravel()
        with_event = np.asarray(present @ flags.astype(np.float64))
        lifts = _lifts(with_event[:, None], everywhere, num_events, len(flags))[:, 0]
        best = [code for code in np.argsort(-lifts, kind="stable")[:NUM_ANSWERS].tolist() if lifts[code] > 0]
        answers = tuple(
            Answer(code=code, lift=float(lifts[code]), num_with_event=int(with_event[code]), num_steps=int(n))
            for code, n in zip(best, everywhere[best], strict=True)
        )
        shuffled = present @ _turned(happened, generator_for(seed, "events", name))
        most = _lifts(np.asarray(shuffled), everywhere, num_events, len(flags)).max(axis=0)
        chance = float(np.percentile(most, CHANCE_PERCENTILE)) if (most > 0).any() else None
        return row.model_copy(update={"answers": answers, "chance_lift": chance})


def _lifts(with_event: Floats, everywhere: Floats, num_events: int, num_steps: int) -> Floats:
    """Lifts [codes, n] of counts [codes, n]; 0 where there is too little to go by."""
    share = everywhere[:, None] / num_steps
    lifts: Floats = np.where(with_event >= MIN_SUPPORT, with_event / num_events / np.maximum(share, 1e-12), 0.0)
    return lifts


def _turned(happened: list[Flags], generator: np.random.Generator) -> Floats:
    """The events of all episodes, each turned by a random number of steps, float64 [steps, NUM_SHUFFLES]."""
    columns = [
        np.concatenate([np.roll(flags, int(generator.integers(1, max(len(flags), 2)))) for flags in happened])
        for _ in range(NUM_SHUFFLES)
    ]
    return np.stack(columns, axis=1).astype(np.float64)
