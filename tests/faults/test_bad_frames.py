"""Frame datasets that are damaged, foreign or empty, given to commands: exit code 2, the file by name, no harm."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lapa_ray import cli
from lapa_ray.core.artefact import Draft
from lapa_ray.core.config import StageConfig
from lapa_ray.core.frames import NO_ACTION
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.shards import shard_paths
from lapa_ray.dataset.splits import split_episodes
from lapa_ray.dataset.summary import frame_figures
from lapa_ray.dataset.writer import FrameWriter
from tests.support.counter_env import CounterEnv
from tests.support.recordings import frames_artefact

COMMANDS = {
    "inspect": ["--path={frames}", "--verify"],
    "export-frames": ["--frames={frames}", "--out={out}"],
    "train-vqvae": ["--frames={frames}", "--out={out}", "--wandb.mode=disabled"],
}
EACH_COMMAND = pytest.mark.parametrize("command", ["inspect", "export-frames", "train-vqvae"])


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """Two shards: of 250 and 10 steps, and of 30."""
    return make(tmp_path_factory.mktemp("sound") / "frames", [[250, 10], [30]])


def make(out: Path, shards: list[list[int]], height: int = 210, seed: int = 0) -> Path:
    draft = Draft.begin(StageConfig(out=out, seed=seed), "frames")
    env, episode_id = CounterEnv(height=height), 0
    for number, lengths in enumerate(shards):
        with FrameWriter(out, env.info, f"shard-{number}", "counter") as writer:
            for length in lengths:
                step = env.reset(episode_id)
                writer.begin_episode(episode_id)
                writer.append(NO_ACTION, step.frames, terminated=length == 0, truncated=False)
                for _ in range(length):
                    writer.append(1, env.step(1).frames, terminated=False, truncated=False)
                writer.end_episode()
                episode_id += 1
    draft.finish(frame_figures(out))
    return out


@pytest.fixture
def frames(sound, tmp_path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "frames"))


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.fixture
def refused(tmp_path, capfd) -> Callable[[str, Path], str]:
    """Run a command on frames that it must refuse; returns what it says."""

    def run(command: str, frames: Path) -> str:
        capfd.readouterr()
        before = contents(tmp_path)
        arguments = [option.format(frames=frames, out=tmp_path / "out") for option in COMMANDS[command]]
        assert cli.main([command, *arguments]) == cli.EXIT_BAD_INPUT
        said = capfd.readouterr().err
        lines = [line for line in said.splitlines() if not line.startswith("inspect: verify")]
        assert lines[0].startswith(f"lapa-ray {command}: ")
        assert len(lines) <= 2, said
        assert contents(tmp_path) == before
        return "\n".join(lines)

    return run


def first(frames: Path) -> Path:
    return shard_paths(frames)[0]


def cut(frames: Path) -> None:
    content = first(frames).read_bytes()
    first(frames).write_bytes(content[: len(content) * 2 // 3])


def emptied(frames: Path) -> None:
    first(frames).write_bytes(b"")


def flip(frames: Path) -> None:
    """A bit of an index column, which is read when the dataset is opened."""
    with pq.ParquetFile(first(frames)) as file:
        chunk = file.metadata.row_group(0).column(file.schema_arrow.names.index("frame_index"))
    content = bytearray(first(frames).read_bytes())
    content[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 1
    first(frames).write_bytes(content)


def text(frames: Path) -> None:
    first(frames).write_text("hello")


def foreign(frames: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2, 3]}), first(frames))


def codes_of_lapa_ray(frames: Path) -> None:
    table = pq.read_table(first(frames))
    said = {b"lapa_ray": json.dumps({"format": "lapa_ray codes", "version": 1}).encode()}
    pq.write_table(table.replace_schema_metadata(said), first(frames))


def rewritten(change: Callable[[dict], dict]) -> Callable[[Path], None]:
    """Other metadata over the same row groups."""

    def damage(frames: Path) -> None:
        with pq.ParquetFile(first(frames)) as file:
            groups = [file.read_row_group(number) for number in range(file.num_row_groups)]
        said = change(json.loads(groups[0].schema.metadata[b"lapa_ray"]))
        schema = groups[0].schema.with_metadata({b"lapa_ray": json.dumps(said)})
        with pq.ParquetWriter(first(frames), schema) as writer:
            for group in groups:
                writer.write_table(group.cast(schema))

    return damage


def without(columns: list[str]) -> Callable[[Path], None]:
    def damage(frames: Path) -> None:
        table = pq.read_table(first(frames))
        pq.write_table(table.drop_columns(columns), first(frames))

    return damage


def no_rows(frames: Path) -> None:
    table = pq.read_table(first(frames))
    pq.write_table(table.slice(0, 0), first(frames))


@EACH_COMMAND
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "corrupt shard"),
        (emptied, "corrupt shard"),
        (flip, "corrupt shard"),
        (text, "corrupt shard"),
        (foreign, "not a frame shard of lapa_ray"),
        (codes_of_lapa_ray, "its metadata is damaged"),
        (rewritten(lambda said: said | {"version": 99}), "frames of version 99, but this lapa_ray reads version 1"),
        (rewritten(lambda said: {k: v for k, v in said.items() if k != "palette"}), "its metadata is damaged"),
        (rewritten(lambda said: said | {"palette": said["palette"][:-6]}), "its metadata is damaged"),
        (rewritten(lambda said: said | {"channels": 2}), "its metadata is damaged"),
        (rewritten(lambda said: said | {"height": 105}), "its columns are not those of frames version 1"),
        (rewritten(lambda said: said | {"height": -210, "width": -160}), "its metadata is damaged"),
        (rewritten(lambda said: said | {"frame_skip": 0}), "its metadata is damaged"),
        (rewritten(lambda said: said | {"sticky_probability": 0.5}), "recorded with another game or settings"),
        (without(["ram"]), "its columns are not those of frames version 1"),
    ],
)
def test_a_bad_shard_is_named(command, damage, message, frames, refused):
    damage(frames)
    said = refused(command, frames)
    assert message in said
    assert any(str(shard) in said for shard in shard_paths(frames))


@EACH_COMMAND
def test_a_lost_shard_is_missed(command, frames, refused):
    first(frames).rename(frames / "shard-0-00000.bak")
    assert f"{frames}: its shards hold 1 episodes, but its manifest says 3" in refused(command, frames)


@EACH_COMMAND
def test_a_shard_without_rows(command, frames, refused):
    no_rows(frames)
    assert f"{frames}: its shards hold 1 episodes, but its manifest says 3" in refused(command, frames)


@EACH_COMMAND
def test_a_shard_of_another_dataset_is_not_taken_for_its_own(command, frames, tmp_path, refused):
    other = make(tmp_path / "other", [[250, 11]])
    shutil.copy(first(other), first(frames))
    assert f"{frames}: its shards hold 291 steps, but its manifest says 290" in refused(command, frames)
    shutil.copy(first(other), frames / "one-more.parquet")
    assert "episode 0 is in " in refused(command, frames)


@EACH_COMMAND
def test_a_shard_of_another_dataset_that_fits_in_all_counts(command, frames, tmp_path, refused):
    other = make(tmp_path / "other", [[250, 10], [30]], seed=1)
    shutil.copy(first(other), first(frames))
    assert f"{first(frames)}: recorded for another artefact" in refused(command, frames)


@EACH_COMMAND
def test_a_folder_without_shards(command, frames, refused):
    for shard in shard_paths(frames):
        shard.unlink()
    assert f"{frames}: holds no shards (*.parquet)" in refused(command, frames)


def test_a_shard_may_be_renamed(frames, sound):
    first(frames).rename(frames / "anything.parquet")
    dataset, before = FrameDataset.open(frames), FrameDataset.open(sound)
    assert dataset.episode_ids == before.episode_ids
    for episode_id in dataset.episode_ids:
        np.testing.assert_array_equal(dataset.screens(episode_id), before.screens(episode_id))


def test_one_episode_cannot_be_split(tmp_path, refused):
    frames = make(tmp_path / "frames", [[5]])
    assert f"{frames} has 1 episode; a split by episode needs at least 2" in refused("train-vqvae", frames)


def test_episodes_of_one_frame_have_no_pairs(tmp_path, refused, capfd):
    frames = make(tmp_path / "frames", [[0, 0, 0]])
    assert f"{frames}: has no step, only first frames of episodes" in refused("train-vqvae", frames)
    assert cli.main(["inspect", str(frames), "--verify"]) == 0
    assert "steps an episode: 0 to 0" in capfd.readouterr().out


def test_a_split_of_episodes_of_one_frame_has_no_pairs(tmp_path, refused):
    held_out = split_episodes(range(4), 0.1)[1]
    frames = make(tmp_path / "frames", [[0 if episode in held_out else 5 for episode in range(4)]])
    assert f"{frames}: every episode of a split ends at its first frame" in refused("train-vqvae", frames)


def test_screens_of_another_size_are_refused_by_the_vqvae(tmp_path, refused):
    frames_artefact(tmp_path / "frames", [5, 5], height=40)
    assert "screens of 40×160; the VQ-VAE takes 210×160" in refused("train-vqvae", tmp_path / "frames")
