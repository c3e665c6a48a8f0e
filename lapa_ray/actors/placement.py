"""Placement: where the actors of one training run, in terms of Ray's scheduling.

Alone on a cluster they go wherever there is room. A trial of a comparison has reserved a group of bundles for all of
them, so that two trials never wait for each other's actors: the driver and the replay server share the first bundle,
the learner has the second, and each worker one of the others. Knows no configs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, get_current_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

DRIVER_BUNDLE, LEARNER_BUNDLE, FIRST_WORKER_BUNDLE = 0, 1, 2
Bundle = Mapping[str, float]


def bundles_of(*, driver: Bundle, learner: Bundle, worker: Bundle, num_workers: int) -> Sequence[dict[str, float]]:
    """The bundles that a trial reserves, in the order that `Placement` counts on."""
    return [dict(bundle) for bundle in (driver, learner, *([worker] * num_workers))]


class Placement:
    """Scheduling strategies of the actors, as Ray takes them."""

    def __init__(self, group: PlacementGroup | None = None) -> None:
        """`group` holds the bundles of `bundles_of`; None lets the cluster decide."""
        self._group = group

    @classmethod
    def of_trial(cls) -> Placement:
        """In the group that this process, a trial's driver, was placed in by Tune."""
        group = get_current_placement_group()
        assert group is not None, "called outside of a placement group"
        return cls(group)

    @property
    def server(self) -> Any:
        """On this node, whatever room there is: the server writes its snapshots to this driver's disk."""
        if self._group is not None:
            return self._bundle(DRIVER_BUNDLE)
        return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)

    @property
    def learner(self) -> Any:
        """Wherever there is room."""
        return "DEFAULT" if self._group is None else self._bundle(LEARNER_BUNDLE)

    def worker(self, index: int) -> Any:
        """Of the worker in the `index`-th place, from 0, whoever had it before; spread if nothing is reserved.

        Left to choose, a worker could take from the learner's bundle, and the learner would wait forever.
        """
        if self._group is None:
            return "SPREAD"
        return self._bundle(FIRST_WORKER_BUNDLE + index)

    def _bundle(self, index: int) -> PlacementGroupSchedulingStrategy:
        return PlacementGroupSchedulingStrategy(
            self._group, placement_group_bundle_index=index, placement_group_capture_child_tasks=True
        )
