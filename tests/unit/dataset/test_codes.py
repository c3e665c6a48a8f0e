"""The code dataset: what is written is read, rows mean what they say, and what does not fit is named."""

import dataclasses
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from lapa_ray.core.errors import LapaError
from lapa_ray.dataset.codes import CodeDataset, codes_path, joined, read_codes, write_codes
from lapa_ray.dataset.reader import FrameDataset
from tests.support.counter_env import read
from tests.support.made_artefacts import counter_codes, counter_frames, made_vqvae

LENGTHS = {3: 7, 11: 1, 40: 12}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    frames = counter_frames(folder / "frames", LENGTHS)
    vqvae = made_vqvae(folder / "vqvae", frames)
    counter_codes(folder / "codes", folder / "frames", vqvae)
    return folder


@pytest.fixture
def codes(made):
    return CodeDataset.open(made / "codes")


@pytest.fixture
def frames(made):
    return FrameDataset.open(made / "frames")


def test_every_step_is_there_with_its_action_reward_and_end(codes, frames):
    assert codes.episode_ids == sorted(LENGTHS)
    for episode_id, length in LENGTHS.items():
        episode, steps = codes.episode(episode_id), frames.steps(episode_id)
        assert len(episode) == length
        assert episode.codes.dtype == np.int16
        assert episode.codes.shape == (length, 35)
        for name in ("actions", "executed_actions", "rewards", "terminated", "truncated"):
            np.testing.assert_array_equal(getattr(episode, name), getattr(steps, name))


def test_row_t_is_the_pair_that_step_t_leads_through(codes):
    """The pair's second frame was made by the action of the same row."""
    for episode_id, length in LENGTHS.items():
        episode = codes.episode(episode_id)
        np.testing.assert_array_equal(episode.codes[:, 0], episode_id)
        np.testing.assert_array_equal(episode.codes[:, 1], np.arange(length))
        np.testing.assert_array_equal(episode.codes[:, 2], np.arange(1, length + 1))
        np.testing.assert_array_equal(episode.codes[:, 3], episode.actions)


def test_joined_gives_the_frames_that_the_codes_stand_for(codes, frames):
    triples = list(joined(codes, frames))
    assert len(triples) == sum(LENGTHS.values())
    for frame_t, grid, frame_t1 in triples:
        assert (read(frame_t)[0], read(frame_t1)[0]) == (grid[0], grid[0])
        assert (read(frame_t)[1], *read(frame_t1)[1:]) == tuple(grid[1:4])


def test_rows_join_with_the_frames_on_episode_and_step(made, codes):
    table = pq.read_table(codes_path(made / "codes", 40)).select(["episode_id", "step", "action"])
    rows = {(row["episode_id"], row["step"]): row["action"] for row in table.to_pylist()}
    frames = pq.read_table(next((made / "frames").glob("*.parquet"))).select(["episode_id", "step", "action"])
    theirs = {(r["episode_id"], r["step"]): r["action"] for r in frames.to_pylist() if r["episode_id"] == 40}
    assert rows == {key: action for key, action in theirs.items() if key[1] >= 0}


def test_a_file_explains_itself(made, codes, frames):
    said = json.loads(pq.read_schema(codes_path(made / "codes", 3)).metadata[b"lapa_ray"])
    assert said["format"] == "lapa_ray codes"
    assert (said["codebook_size"], said["grid"], said["composite"]) == (256, [7, 5], "max4")
    assert said["frames"] == frames.artefact.identity
    assert said["vqvae"] == codes.artefact.manifest.parents["vqvae"].identity
    assert codes.num_actions == len(frames.info.action_meanings)


def copy(made, tmp_path):
    shutil.copytree(made / "codes", tmp_path / "codes")
    return tmp_path / "codes"


def test_codes_of_other_frames_are_refused(tmp_path, codes):
    counter_frames(tmp_path / "others", LENGTHS, seed=1)
    with pytest.raises(LapaError, match="was not made with the frames in"):
        next(joined(codes, FrameDataset.open(tmp_path / "others")))


def test_a_file_by_another_vqvae_is_named(made, tmp_path, codes, frames):
    path = copy(made, tmp_path)
    other = dataclasses.replace(codes.info, vqvae="0123456789abcdef")
    write_codes(path, other, 11, codes.episode(11))
    with pytest.raises(LapaError, match=r"episode-000000000011\.parquet: made with another VQ-VAE"):
        CodeDataset.open(path)


def test_a_missing_file_is_told(made, tmp_path):
    path = copy(made, tmp_path)
    codes_path(path, 11).unlink()
    with pytest.raises(LapaError, match="2 of its 3 code files are there"):
        CodeDataset.open(path)


@pytest.mark.parametrize("content", [b"", b"PAR1 not", None])
def test_a_corrupt_file_is_named(made, tmp_path, content):
    path = codes_path(copy(made, tmp_path), 40)
    if content is None:
        whole = bytearray(path.read_bytes())
        whole[200:400] = bytes(200)
        content = bytes(whole)
    path.write_bytes(content)
    with pytest.raises(LapaError, match=r"episode-000000000040\.parquet: corrupt"):
        CodeDataset.open(tmp_path / "codes")


def test_codes_outside_the_codebook_are_refused(made, tmp_path, codes):
    path = copy(made, tmp_path)
    episode = dataclasses.replace(codes.episode(3), codes=codes.episode(3).codes + 255)
    write_codes(path, codes.info, 3, episode)
    with pytest.raises(LapaError, match=r"outside \[0, 256\)"):
        read_codes(codes_path(path, 3))


def test_a_renamed_file_is_refused(made, tmp_path):
    path = copy(made, tmp_path)
    codes_path(path, 3).rename(codes_path(path, 4))
    with pytest.raises(LapaError, match=r"episode-000000000004\.parquet: its rows are not one whole episode"):
        CodeDataset.open(path)
