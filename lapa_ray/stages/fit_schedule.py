"""The schedule of a training: its length and its number of items in, which items each update takes out.

The same however often the training was stopped. Knows neither the items themselves nor the model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.errors import LapaError
from lapa_ray.core.seeds import generator_for
from lapa_ray.stages.fit_config import TrainingConfig
from lapa_ray.stages.fit_share import Share, agree
from lapa_ray.stages.fit_task import Turn


class Schedule:
    """How many updates a worker makes, and which items each of them takes."""

    def __init__(self, training: TrainingConfig, seed: int, share: Share, num_items: int) -> None:
        """Raises `LapaError` if there are fewer items than an update takes."""
        self._training, self._seed, self._share, self._num_items = training, seed, share, num_items
        self._batch = batch_size(training, share)
        shared = int(agree(num_items, share, "min"))  # every worker makes as many updates an epoch
        self.updates_per_epoch = shared // (self._batch * training.accumulate_batches)
        if not self.updates_per_epoch:
            raise _too_few(shared, self._batch, training)
        self.num_updates = self.updates_per_epoch * training.num_epochs
        self.num_updates = min(self.num_updates, training.max_updates or self.num_updates)
        self.samples_per_update = self._batch * share.world_size * training.accumulate_batches
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def turn(self, update: int, number: int) -> Turn:
        """The `number`-th batch of the update after `update`; the epoch's number alone decides its order."""
        epoch, place = divmod(update, self.updates_per_epoch)
        batch = place * self._training.accumulate_batches + number
        if self._order[0] != epoch:
            generator = generator_for(self._seed, "epoch", epoch, self._share.rank)
            self._order = epoch, generator.permutation(self._num_items)
        return Turn(epoch, batch, self._order[1][batch * self._batch : (batch + 1) * self._batch])

    def has_validation(self, update: int) -> bool:
        """Whether a validation follows `update`."""
        epoch, rest = divmod(update, self.updates_per_epoch)
        is_last_of_period = rest == 0 and epoch % self._training.validation_period_epochs == 0
        return is_last_of_period or update == self.num_updates


def batch_size(training: TrainingConfig, share: Share) -> int:
    """Items of an update that each worker takes."""
    return max(1, training.batch_size // share.world_size)


def is_due(update: int, period_updates: int) -> bool:
    """Whether a period ends after `update`; one of 0 never does."""
    return period_updates > 0 and update % period_updates == 0


def _too_few(num_items: int, batch: int, training: TrainingConfig) -> LapaError:
    """Less than one update's items in a worker's share: names the option that asks for more than there is."""
    if batch > num_items:
        return LapaError(
            f"--training.batch_size {training.batch_size}: larger than the training set ({num_items} items a worker); "
            "lower it, or record more."
        )
    return LapaError(
        f"--training.accumulate_batches {training.accumulate_batches}: so many batches of {batch} are larger than the "
        f"training set ({num_items} items a worker); lower it or --training.batch_size, or record more."
    )
