"""Alignment: codes of the pair (t−1 → t) and the action taken at t go in, codes of (t → t+1) are the target."""

import numpy as np
import pytest
import torch

from lapa_ray.core.errors import LapaError
from lapa_ray.dataset.codes import CodeDataset
from lapa_ray.stages.train_world_model import Samples, check_samples
from tests.support.made_artefacts import counter_codes, counter_frames, made_vqvae

LENGTHS = {3: 7, 11: 1, 40: 12}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Codes that spell tag, step of c_t, step of c_t+1 and the action that led to c_t+1."""
    folder = tmp_path_factory.mktemp("made")
    vqvae = made_vqvae(folder / "vqvae", counter_frames(folder / "frames", LENGTHS))
    counter_codes(folder / "codes", folder / "frames", vqvae)
    return CodeDataset.open(folder / "codes")


def batch(samples: Samples):
    return samples.batch(slice(None), torch.device("cpu"))


def test_the_input_ends_where_the_target_begins_and_the_action_leads_from_one_to_the_other(dataset):
    before, actions, after = batch(Samples([dataset.episode(i) for i in dataset.episode_ids]))
    tag, start, end, made_by = range(4)
    torch.testing.assert_close(before[:, end], after[:, start])
    torch.testing.assert_close(before[:, tag], after[:, tag])
    torch.testing.assert_close(actions, after[:, made_by])
    assert not torch.equal(actions, before[:, made_by])


def test_a_sample_never_crosses_an_episode_and_none_is_left_out(dataset):
    _, _, after = batch(Samples([dataset.episode(i) for i in dataset.episode_ids]))
    targets = {(int(row[0]), int(row[1])) for row in after}
    assert targets == {(tag, step) for tag, length in LENGTHS.items() for step in range(1, length)}
    assert len(after) == len(targets)


def test_episodes_of_one_step_are_refused_by_name(dataset, tmp_path):
    with pytest.raises(LapaError, match="shorter than two steps"):
        check_samples(tmp_path, 5, Samples([dataset.episode(11)]))


def test_actions_that_an_import_did_not_know_are_refused(dataset, tmp_path):
    samples = Samples([dataset.episode(3)])
    samples.actions = np.full_like(samples.actions, -1)
    with pytest.raises(LapaError, match="without a known action"):
        check_samples(tmp_path, 5, samples)
