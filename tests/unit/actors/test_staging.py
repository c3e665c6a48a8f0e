"""What comes off the staging is what was put on, whatever the shapes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lapa_ray.actors.staging import HostCopy, Staging
from lapa_ray.replay.chunk import Batch

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def batch(size: int, shape: tuple[int, ...], n_step: int, seed: int) -> Batch:
    generator = np.random.default_rng(seed)
    given = Batch(
        windows=generator.integers(0, 256, (size, 2 + n_step, *shape), dtype=np.uint8),
        actions=generator.integers(0, 9, size),
        rewards=generator.normal(size=size).astype(np.float32),
        discounts=generator.random(size).astype(np.float32),
        weights=generator.random(size).astype(np.float32),
        ids=np.arange(size),
        n_step=n_step,
    )
    given.windows.flags.writeable = False  # as arrays are that come from Ray's object store
    return given


@pytest.mark.parametrize("device", DEVICES)
def test_batches_arrive_as_they_are(device):
    """Odd sizes, so that the columns behind the windows would lie askew if they were not aligned; and shapes change."""
    staging = Staging(torch.device(device))
    for seed, (size, shape, n_step) in enumerate([(3, (5, 7), 1), (3, (5, 7), 1), (4, (6, 5, 3), 3), (1, (1, 1), 2)]):
        given = batch(size, shape, n_step, seed)
        sent = staging.send(given)
        assert sent.windows.device.type == device
        for column, expected in zip(
            sent.columns, (given.windows, given.actions, given.rewards, given.discounts, given.weights), strict=True
        ):
            np.testing.assert_array_equal(column.cpu().numpy(), expected)
        np.testing.assert_array_equal(sent.obs_tm1.cpu().numpy(), given.obs_tm1)
        np.testing.assert_array_equal(sent.obs_t.cpu().numpy(), given.obs_t)
        assert sent.obs_t.shape == (size, 2, *shape)


@pytest.mark.parametrize("device", DEVICES)
def test_windows_that_are_on_the_device_stay_as_they_are(device):
    """As a mirror of the replay's frames gives them."""
    given = batch(3, (5, 7), 1, seed=0)
    mirrored = torch.arange(3 * 3 * 5 * 7, dtype=torch.uint8, device=device).view(3, 3, 5, 7)
    staging = Staging(torch.device(device))
    staging.send(given)
    sent = staging.send(replace(given, windows=mirrored))
    assert sent.windows is mirrored
    np.testing.assert_array_equal(sent.weights.cpu().numpy(), given.weights)
    np.testing.assert_array_equal(sent.actions.cpu().numpy(), given.actions)


@pytest.mark.parametrize("device", DEVICES)
def test_results_arrive_at_the_host(device):
    given = torch.arange(7.0, device=device)
    np.testing.assert_array_equal(HostCopy(given).wait(), np.arange(7, dtype=np.float32))
