"""Pairs from memory or from a stream: the same ones, and a training on either goes on as if never stopped."""

import itertools

import numpy as np
import pytest
import torch

from lapa_ray.core.artefact import Draft
from lapa_ray.core.config import StageConfig, WandbConfig
from lapa_ray.core.errors import LapaError
from lapa_ray.core.frames import NO_ACTION, RAM_BYTES, GameInfo, StepFrames
from lapa_ray.core.metric_log import read_metrics
from lapa_ray.core.stop import StopRequest
from lapa_ray.dataset.pairs import PairStore
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.stream import Draw, PictureStream
from lapa_ray.dataset.summary import frame_figures
from lapa_ray.dataset.writer import FrameWriter
from lapa_ray.models.checkpoint import load_checkpoint
from lapa_ray.models.quantizer import QuantizerConfig
from lapa_ray.models.reconstruction_loss import LossConfig
from lapa_ray.models.vqvae import VqvaeConfig
from lapa_ray.stages import train_vqvae
from lapa_ray.stages.fit import run_fit
from lapa_ray.stages.fit_checkpoints import LAST
from lapa_ray.stages.fit_config import FitResources, TrainingConfig
from lapa_ray.stages.fit_share import Share
from lapa_ray.stages.fit_task import Turn
from lapa_ray.stages.pair_sources import StoredPairs, StreamedPairs, ValidationPairs, training_pairs
from lapa_ray.stages.vqvae_config import PairConfig, TrainVqvaeConfig
from lapa_ray.stages.vqvae_task import VqvaeTask
from tests.support.counter_env import read
from tests.support.recordings import frames_artefact
from tests.support.stop_points import StopAt

LENGTHS = [30, 31, 29] * 8
LITTLE_GB = 0.0107
"""Less than half the pictures take, enough for a window."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return frames_artefact(tmp_path_factory.mktemp("pairs") / "frames", LENGTHS)


def named(pair) -> list[tuple]:
    return [(read(before)[:2], read(after)[:2]) for before, after in zip(*pair, strict=True)]


def an_epoch(pairs, batch_size: int) -> list:
    turns = [
        Turn(0, batch, np.arange(batch * batch_size, (batch + 1) * batch_size))
        for batch in range(pairs.num_items // batch_size)
    ]
    return [item for turn in turns for item in named(pairs.batch(turn))]


def test_workers_see_the_same_pairs_from_memory_and_from_a_stream(dataset):
    seen = {}
    for gigabytes, kind in ((8.0, StoredPairs), (LITTLE_GB, StreamedPairs)):
        seen[kind] = []
        for rank in range(2):
            pairs = training_pairs(dataset, dataset.episode_ids, Draw(1, rank=rank, world_size=2), gigabytes)
            assert isinstance(pairs, kind)
            pair = pairs.batch(Turn(0, 0, np.arange(1)))
            assert [part.dtype for part in pair] == [np.uint8, np.uint8]
            assert sum(part.nbytes for part in pair) == 2 * 210 * 160, "67 kB a pair"
            seen[kind] += an_epoch(pairs, 1)
        assert len(seen[kind]) == sum(LENGTHS)
        assert {pair[0][0] == pair[1][0] and pair[0][1] + 1 == pair[1][1] for pair in seen[kind]} == {True}
    assert sorted(seen[StoredPairs]) == sorted(seen[StreamedPairs])


def test_all_workers_stream_where_the_share_of_one_does_not_fit(dataset):
    ids = dataset.episode_ids[:3]
    least, most = (PairStore.gigabytes(dataset, [i]) for i in (ids[2], ids[1]))
    draws = [Draw(1, rank=rank, world_size=3) for rank in range(3)]
    between = (least + most) / 2
    with pytest.raises(LapaError, match=r"streaming needs .* raise it"):  # it would stream, for want of 1 kB
        training_pairs(dataset, ids, draws[2], between)
    assert isinstance(training_pairs(dataset, ids, draws[2], most), StoredPairs)


def test_validation_sees_every_pair_in_order_from_either(dataset):
    streamed, stored = (
        ValidationPairs(dataset, dataset.episode_ids, "max4", gigabytes) for gigabytes in (LITTLE_GB, 8.0)
    )
    assert streamed.num_items == stored.num_items == sum(LENGTHS)
    for _ in range(2):
        both = [list(itertools.chain.from_iterable(map(named, pairs.batches(7)))) for pairs in (streamed, stored)]
        assert both[0] == both[1]
        assert len(both[0]) == sum(LENGTHS)


def test_fewer_episodes_than_workers(dataset):
    with pytest.raises(LapaError, match=r"frames: fewer training episodes than the 4 workers"):
        training_pairs(dataset, dataset.episode_ids[:3], Draw(1, world_size=4), 1.0)


def train(folder, dataset, stop=None):
    config = TrainVqvaeConfig(
        frames=dataset.artefact.path,
        out=folder,
        pairs=PairConfig(max_memory_gb=LITTLE_GB),
        model=VqvaeConfig(width=2, code_dim=4, quantizer=QuantizerConfig(codebook_size=8)),
        training=TrainingConfig(max_updates=4, batch_size=8, log_period_updates=1),
        resources=FitResources(num_workers=0, device="cpu"),
    )

    def task(share: Share, device: torch.device) -> VqvaeTask:
        made = VqvaeTask(config, share, device)
        assert isinstance(made._train, StreamedPairs)
        return made

    return run_fit("train-vqvae", config, task, folder, StopRequest() if stop is None else stop)


def test_a_training_that_streams_goes_on_as_if_never_stopped(tmp_path, dataset):
    for folder in ("unbroken", "resumed"):
        (tmp_path / folder).mkdir()
    unbroken = train(tmp_path / "unbroken", dataset)
    assert train(tmp_path / "resumed", dataset, StopAt(2)).update == 2
    assert train(tmp_path / "resumed", dataset) == unbroken
    assert read_metrics(tmp_path / "resumed/metrics.jsonl") == read_metrics(tmp_path / "unbroken/metrics.jsonl")
    torch.testing.assert_close(
        load_checkpoint(tmp_path / "resumed" / LAST), load_checkpoint(tmp_path / "unbroken" / LAST), rtol=0, atol=0
    )


def rgb_artefact(path):
    """Two episodes of noise in RGB."""
    draft = Draft.begin(StageConfig(out=path), "frames")
    none = np.empty((0, 3), np.uint8)
    info = GameInfo("Film", none, ("NOOP",), 210, 160, 1, 0.0, "none", channels=3)
    generator = np.random.default_rng(0)
    with FrameWriter(path, info, "film", "nobody") as writer:
        for episode_id in range(2):
            writer.begin_episode(episode_id)
            for action in (NO_ACTION, 0, 0):
                screens = generator.integers(0, 256, (1, *info.screen_shape), dtype=np.uint8)
                zeros = np.zeros(1, np.int8)
                frames = StepFrames(screens, np.zeros((1, RAM_BYTES), np.uint8), zeros, np.zeros(1, np.float32), zeros)
                writer.append(action, frames, terminated=False, truncated=False)
            writer.end_episode()
    draft.finish(frame_figures(path))
    return FrameDataset.open(path)


def test_rgb_frames_stream_and_train_as_well(tmp_path):
    dataset = rgb_artefact(tmp_path / "film")
    with PictureStream(dataset, [0, 1], Draw(4, shuffle=False)) as stream:
        for streamed, stored in zip(
            stream.next_batch().pictures, PairStore.load(dataset, [0, 1]).batch(range(4)), strict=True
        ):
            np.testing.assert_array_equal(streamed, stored)
    config = TrainVqvaeConfig(
        frames=dataset.artefact.path,
        out=tmp_path / "vqvae",
        model=VqvaeConfig(width=2, code_dim=4, quantizer=QuantizerConfig(codebook_size=8)),
        loss=LossConfig(changed_pixel_weight=1.0),
        training=TrainingConfig(num_epochs=1, batch_size=2),
        resources=FitResources(num_workers=0, device="cpu"),
        wandb=WandbConfig(mode="disabled"),
    )
    figures = train_vqvae.run(config).manifest.figures
    assert figures["num_updates"] == 1
    assert np.isfinite(figures["val_changed_psnr_db"])
