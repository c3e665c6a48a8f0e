"""Shards that must be refused, each by its name and with a way out in at most two lines."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapa_ray.core.errors import LapaError
from lapa_ray.core.frames import NO_ACTION
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.schema import ROW_GROUP_ROWS
from lapa_ray.dataset.shards import read_shards, shard_paths
from lapa_ray.dataset.summary import frame_figures
from lapa_ray.dataset.writer import FrameWriter
from tests.support.counter_env import NUM_ACTIONS, CounterEnv
from tests.support.recordings import frames_artefact, open_folder, record_counter
from tests.support.shard_fuzz import varint


@pytest.fixture
def shard(tmp_path):
    record_counter(tmp_path, [3, 2])
    return tmp_path / "shard-00000.parquet"


def refused(shard, match: str) -> str:
    with pytest.raises(LapaError, match=match) as error:
        read_shards([shard])
    assert str(error.value).startswith(str(shard))
    assert len(str(error.value).splitlines()) <= 2
    return str(error.value)


def rewrite(shard, change, row_group_size: int = 13) -> None:
    """Rewrite a shard by another Parquet writer: `change` is given its columns and returns others."""
    table = pq.read_table(shard)
    columns = change({name: table.column(name).to_pylist() for name in table.column_names})
    pq.write_table(pa.table(columns, schema=table.schema), shard, row_group_size=row_group_size)


def set_row(name: str, row: int, value):
    def change(columns):
        columns[name][row] = value
        return columns

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (set_row("frame_index", 5, 9), "episode 0 is not whole, or its rows are out of order"),
        (set_row("step", 12, 4), "episode 0 is not whole"),
        (set_row("step", 0, 0), "episode 0 is not whole"),
        (set_row("terminated", 12, False), "episode 0 is not whole"),
        (set_row("truncated", 4, True), "episode 0 is not whole"),
        (set_row("step", 4, 1), "episode 0 is not whole"),
        (
            lambda columns: columns | {"step": [-1, -1, *[0] * 3, *[1] * 4, *[2] * 4, *columns["step"][13:]]},
            "not whole",
        ),
        (lambda columns: columns | {"step": [-1, *[0] * 3, *[1] * 4, *[2] * 5, *columns["step"][13:]]}, "not whole"),
        (set_row("action", 6, 4), "episode 0 holds a step of several actions"),
        (set_row("action", 20, NUM_ACTIONS), "episode 1 holds an action that is none of the 5"),
        (set_row("executed_action", 20, -2), "episode 1 holds an action that is none of the 5"),
        (lambda columns: columns | {"episode_id": [0] * 13 + [0] * 9}, "episode 0 is not whole"),
        (lambda columns: columns | {"episode_id": [0] * 12 + [1] * 10}, "a row group holds rows of several episodes"),
    ],
)
def test_rows_that_tell_no_consistent_story(shard, change, match):
    rewrite(shard, change)
    refused(shard, match)


def test_an_episode_whose_rows_lie_apart(tmp_path):
    record_counter(tmp_path, [3, 3, 3])
    shard = tmp_path / "shard-00000.parquet"
    rewrite(shard, lambda columns: columns | {"episode_id": [0] * 13 + [1] * 13 + [0] * 13})
    refused(shard, "the rows of episode 0 lie apart")


def test_a_shard_of_another_writer_is_read_as_well(shard):
    before = open_folder(shard.parent).screens(1)
    rewrite(shard, lambda columns: columns)
    np.testing.assert_array_equal(open_folder(shard.parent).screens(1), before)


def test_an_import_may_lack_ram_and_actions(shard):
    nothing = [None] * 22
    rewrite(shard, lambda columns: columns | {"ram": nothing, "action": nothing, "executed_action": nothing})
    steps = open_folder(shard.parent).steps(0)
    assert steps.ram is None
    assert steps.actions.tolist() == steps.executed_actions.tolist() == [NO_ACTION] * 3


def change_metadata(shard, change) -> None:
    table = pq.read_table(shard)
    said = change(json.loads(table.schema.metadata[b"lapa_ray"]))
    pq.write_table(table.replace_schema_metadata({b"lapa_ray": said}), shard)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda said: "{", "its metadata is damaged"),
        (lambda said: "[]", "its metadata is damaged"),
        (lambda said: json.dumps(said | {"format": "pies"}), "its metadata is damaged"),
        (lambda said: json.dumps(said | {"palette": "00"}), "its metadata is damaged"),
        (lambda said: json.dumps(said | {"height": None}), "its metadata is damaged"),
        (lambda said: json.dumps({**said, "version": 2, "palette": "elsewhere"}), "frames of version 2, but this"),
        (lambda said: json.dumps(said | {"height": 5}), "its columns are not those of frames version 1"),
    ],
)
def test_metadata_that_do_not_fit(shard, change, match):
    change_metadata(shard, change)
    refused(shard, match)


def test_metadata_with_a_flipped_bit(shard):
    table = pq.read_table(shard)
    metadata = dict(table.schema.metadata)
    metadata[b"lapa_ray"] = metadata[b"lapa_ray"].replace(b"0101", b"0103", 1)
    pq.write_table(table.replace_schema_metadata(metadata), shard)
    refused(shard, "its checksum differs")


def test_shards_of_two_games_are_kept_apart(tmp_path):
    record_counter(tmp_path, [3])
    env = CounterEnv(length=1, height=4)
    other = replace(env.info, game="Countess")
    with FrameWriter(tmp_path, other, "strange", "counter") as writer:
        writer.begin_episode(7)
        writer.append(NO_ACTION, env.reset(0).frames, False, True)
    with pytest.raises(LapaError, match=r"strange-00000\.parquet: recorded with another game or settings"):
        read_shards(shard_paths(tmp_path))


def test_a_folder_without_shards(tmp_path):
    with pytest.raises(LapaError, match="no whole episode was recorded"):
        frame_figures(tmp_path)
    dataset = frames_artefact(tmp_path / "frames", [2], height=4)
    shard_paths(dataset.artefact.path)[0].unlink()
    with pytest.raises(LapaError, match=r"holds no shards"):
        FrameDataset.open(dataset.artefact.path)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A shard with two row groups for one episode, its bytes and all that can be read from it."""
    folder = tmp_path_factory.mktemp("sound")
    record_counter(folder, [ROW_GROUP_ROWS // 4 + 3, 4])
    shard = folder / "shard-00000.parquet"
    return shard, shard.read_bytes(), everything(shard)


def everything(shard) -> list[bytes]:
    info, episodes = read_shards([shard])
    told = [repr(info).encode(), info.palette.tobytes()]
    for _, rows in sorted(episodes.items()):
        told += [column.tobytes() for column in rows.columns.values()]
        told += [rows.ram().tobytes(), *(screens.tobytes() for screens in rows.screens())]
    return told


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_is_refused_or_changes_nothing(sound, data):
    shard, content, told = sound
    position, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    flipped = bytearray(content)
    flipped[position] ^= 1 << bit
    shard.write_bytes(flipped)
    try:
        assert everything(shard) == told
    except LapaError as error:
        assert str(error).startswith(str(shard))  # noqa: PT017


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_shard_cut_short_is_refused(sound, data):
    shard, content, _ = sound
    shard.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    refused(shard, "corrupt shard")


@pytest.mark.parametrize("damage", ["another row group's place", "a size below zero"])
def test_a_footer_that_leads_elsewhere(tmp_path, damage):
    """What lies there may be whole, with a checksum that holds, but of other rows."""
    record_counter(tmp_path, [400], height=40)
    shard = tmp_path / "shard-00000.parquet"
    with pq.ParquetFile(shard) as file:
        column = file.schema_arrow.names.index("screen")
        second, third = (file.metadata.row_group(group).column(column) for group in (1, 2))
    content = shard.read_bytes()
    if damage == "a size below zero":
        number = bytearray(varint(second.total_compressed_size))
        number[0] ^= 1
        changed = content.replace(varint(second.total_compressed_size), bytes(number))
    else:
        changed = content.replace(varint(third.data_page_offset), varint(second.data_page_offset))
    assert changed != content
    assert len(changed) == len(content)
    shard.write_bytes(changed)
    refused(shard, "corrupt shard")


def test_a_damaged_screen_is_found_when_it_is_read(tmp_path):
    dataset = frames_artefact(tmp_path / "frames", [40], height=40)
    shard = shard_paths(dataset.artefact.path)[0]
    with pq.ParquetFile(shard) as file:
        column = file.metadata.row_group(0).column(file.schema_arrow.names.index("screen"))
        middle = column.data_page_offset + column.total_compressed_size // 2
    content = bytearray(shard.read_bytes())
    content[middle] ^= 16
    shard.write_bytes(content)
    damaged = FrameDataset.open(dataset.artefact.path)
    with pytest.raises(LapaError, match=r"shard-00000\.parquet: corrupt shard \(.*CRC"):
        damaged.composites(0)
