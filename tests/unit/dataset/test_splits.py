"""Splits in any number of parts: nested, stable, none of them empty."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapa_ray.core.errors import LapaError
from lapa_ray.dataset.splits import named_parts, position, split_episodes, split_parts
from tests.support.recordings import frames_artefact

IDS = st.sets(st.integers(0, 10**9), min_size=3, max_size=80)


@settings(deadline=None)
@given(IDS)
def test_parts_are_nested_in_those_of_coarser_splits(ids):
    train, validation, test = split_parts(ids, (0.8, 0.1, 0.1))
    assert sorted(train + validation + test) == sorted(ids)
    assert min(map(len, (train, validation, test))) >= 1
    assert max(map(position, test)) < min(map(position, validation)) <= max(map(position, validation))
    assert max(map(position, validation)) < min(map(position, train))
    _, tenth = split_episodes(ids, 0.1)
    assert set(test) <= set(tenth)
    assert tenth == test or len(tenth) > len(ids) - 2, "only where a part would be empty do they differ"
    _, fifth = split_episodes(ids, 0.2)
    assert set(fifth) <= {*validation, *test}


def test_parts_have_about_their_share_and_adding_episodes_moves_none():
    few, many = (split_parts(range(n), (0.6, 0.3, 0.1)) for n in (500, 5000))
    for part, grown, share in zip(few, many, (0.6, 0.3, 0.1), strict=True):
        assert set(part) == {episode for episode in grown if episode < 500}
        assert len(grown) / 5000 == pytest.approx(share, abs=0.03)


def test_what_cannot_be_split():
    with pytest.raises(LapaError, match="the dataset has 2 episodes; a split by episode needs at least 3: record more"):
        split_parts([1, 2], (0.8, 0.1, 0.1))
    for fractions in ((), (0.9, 0.2), (1.1, -0.1)):
        with pytest.raises(ValueError, match="should be positive and add up to 1"):
            split_parts([1, 2, 3], fractions)


def test_a_dataset_splits_and_tells_who_played(tmp_path):
    dataset = frames_artefact(tmp_path / "frames", [3] * 12, height=4)
    assert len(dataset) == 12
    train, held_out = dataset.split(0.9, 0.1)
    assert (train, held_out) == split_episodes(dataset.episode_ids, 0.1)
    assert {dataset.policy(episode) for episode in dataset.episode_ids} == {"counter"}


def test_named_parts_are_those_of_their_shares_and_a_test_part_is_held_out_by_all():
    ids = range(200)
    assert named_parts(ids, "90/10") == (*split_episodes(ids, 0.1), [])
    assert named_parts(ids, "80/20") == (*split_episodes(ids, 0.2), [])
    for count in (3, 4, 7, 30, 200):
        training, validation, test = named_parts(range(count), "80/10/10")
        assert (training, validation, test) == split_parts(range(count), (0.8, 0.1, 0.1))
        assert set(test) <= set(named_parts(range(count), "90/10").validation)
        assert set(test) <= set(named_parts(range(count), "80/20").validation)
    with pytest.raises(LapaError, match="frames has 2 episodes; a split by episode needs at least 3"):
        named_parts([1, 2], "80/10/10", "frames")
