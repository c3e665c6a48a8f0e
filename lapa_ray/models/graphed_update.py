"""An update as one CUDA graph: recorded once, then replayed, so that the host launches one thing, not hundreds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lapa_ray.models.td_loss import Transitions

NUM_WARM_UPS = 3
"""Updates made as usual before the recording: libraries choose their kernels and Adam makes its state in them."""


class GraphedUpdate:
    """`update` of transitions that all have the shapes of the first ones. Every call is one update, recorded or not."""

    def __init__(self, update: Callable[[Transitions], Tensor]) -> None:
        self._update = update
        self._num_warm_ups = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: Transitions | None = None
        self._td_errors: Tensor | None = None

    def __call__(self, given: Transitions) -> Tensor:
        """One update; the |TD errors| float32 [B] that it returns are overwritten by the next one."""
        if self._num_warm_ups < NUM_WARM_UPS:
            self._num_warm_ups += 1
            return self._warm_up(given)
        if self._graph is None:
            self._record(given)
        return self._replay(given)

    def _warm_up(self, given: Transitions) -> Tensor:
        """Beside the main stream, as CUDA asks of what is recorded afterwards."""
        main, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(main)
        with torch.cuda.stream(side):
            td_errors = self._update(given)
        main.wait_stream(side)
        td_errors.record_stream(main)
        return td_errors

    def _record(self, given: Transitions) -> None:
        """Record without running; what the graph reads and writes stays where it is from now on."""
        self._inputs = given.cloned()
        self._graph = torch.cuda.CUDAGraph()
        # Other threads of this process (Ray's) may go on meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._td_errors = self._update(self._inputs)

    def _replay(self, given: Transitions) -> Tensor:
        assert self._graph is not None
        assert self._inputs is not None
        assert self._td_errors is not None
        for place, column in zip(self._inputs.columns, given.columns, strict=True):
            place.copy_(column)
        self._graph.replay()
        return self._td_errors
