"""Extract through real Ray Data: the same codes as one pair at a time, resumed where it was left, faults named."""

import os
import shutil
import signal

import numpy as np
import pytest
import torch

from lapa_ray import cli
from lapa_ray.core.artefact import open_artefact
from lapa_ray.dataset.codes import CodeDataset, codes_path, joined
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.models.colour import PaletteRgb
from lapa_ray.models.vqvae import PairEncoder, load_vqvae
from lapa_ray.stages import extract
from tests.support.made_artefacts import counter_frames
from tests.support.small_chain import BRIEF, TINY_VQVAE

pytestmark = pytest.mark.shared_ray

LENGTHS = {2: 9, 5: 70, 9: 1}  # one is longer than a batch, one as short as can be


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extract")
    counter_frames(folder / "frames", LENGTHS)
    arguments = [f"--frames={folder / 'frames'}", *TINY_VQVAE, *BRIEF, "--training.batch_size=8"]
    assert cli.main(["train-vqvae", f"--out={folder / 'vqvae'}", *arguments]) == 0
    assert cli.main(command(folder, folder / "codes")) == 0
    return folder


def command(made, out, *more):
    return ["extract", f"--frames={made / 'frames'}", f"--vqvae={made / 'vqvae'}", f"--out={out}", *more]


def test_codes_are_those_of_single_pairs(made):
    frames, codes = FrameDataset.open(made / "frames"), CodeDataset.open(made / "codes")
    encoder = PairEncoder(load_vqvae(open_artefact(made / "vqvae")), PaletteRgb(frames.info.palette))
    triples = list(joined(codes, frames))
    assert len(triples) == sum(LENGTHS.values())
    for frame_t, grid, frame_t1 in triples[::7]:
        single = encoder.encode_pair(torch.from_numpy(frame_t), torch.from_numpy(frame_t1))
        np.testing.assert_array_equal(single.numpy(), grid)


def test_the_actions_are_those_of_the_frames(made):
    frames, codes = FrameDataset.open(made / "frames"), CodeDataset.open(made / "codes")
    for episode_id in LENGTHS:
        np.testing.assert_array_equal(codes.episode(episode_id).actions, frames.steps(episode_id).actions)


def test_resuming_encodes_what_is_missing_and_keeps_the_rest(made, tmp_path):
    out = tmp_path / "codes"
    shutil.copytree(made / "codes", out, ignore=shutil.ignore_patterns("manifest.json"))
    lost, kept = codes_path(out, 5), codes_path(out, 2)
    content, before = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    assert cli.main(command(made, out, "--resume")) == 0
    assert lost.read_bytes() == content
    assert kept.stat().st_mtime_ns == before


class MortalEncoder(extract.EpisodeEncoder):
    """Dies with its process when it comes to the longest episode."""

    def encode(self, episode_id: int) -> int:
        if LENGTHS[episode_id] == max(LENGTHS.values()):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(episode_id)


def test_an_encoder_that_dies_ends_the_stage_which_goes_on_when_resumed(made, tmp_path, monkeypatch, capfd):
    out = tmp_path / "codes"
    with monkeypatch.context() as patched:
        patched.setattr(extract, "EpisodeEncoder", MortalEncoder)
        assert cli.main(command(made, out)) == cli.EXIT_BAD_INPUT
    last = capfd.readouterr().err.splitlines()[-1]
    kept = (out / "run.json").exists()  # unless the first episode was the fatal one
    way_out = "with --resume to continue" if kept else "again"
    assert last == f"lapa-ray extract: a Ray Data actor died; give the same command {way_out}."
    assert not (out / "manifest.json").exists()
    assert cli.main(command(made, out, *(["--resume"] if kept else []))) == 0
    for episode_id in LENGTHS:
        assert codes_path(out, episode_id).read_bytes() == codes_path(made / "codes", episode_id).read_bytes()
    assert open_artefact(out).manifest.figures == open_artefact(made / "codes").manifest.figures


def test_a_shard_that_is_corrupt_inside_is_named(made, tmp_path, capfd):
    shutil.copytree(made / "frames", tmp_path / "frames")
    shard = next((tmp_path / "frames").glob("*.parquet"))
    middle = shard.stat().st_size // 2
    with shard.open("r+b") as file:
        file.seek(middle)
        file.write(os.urandom(64))
    arguments = command(made, tmp_path / "codes")
    arguments[1] = f"--frames={tmp_path / 'frames'}"
    assert cli.main(arguments) == cli.EXIT_BAD_INPUT
    message = capfd.readouterr().err
    assert f"{shard}: corrupt shard" in message
    assert not (tmp_path / "codes" / "manifest.json").exists()
