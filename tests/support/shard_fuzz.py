"""Mutated shards, read in a process of their own: `python -m tests.support.shard_fuzz FOLDER SEED COUNT`.

Each line on standard output is one JSON object: first `{"case": n}` before a shard is read, so that a crash or a hang
has a number, then what came of it if that is wrong. The last line counts the outcomes.
"""

from __future__ import annotations

import faulthandler
import io
import json
import re
import resource
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from lapa_ray.core.errors import LapaError
from lapa_ray.core.frames import NO_ACTION
from lapa_ray.dataset.shards import EpisodeRows, read_shards
from lapa_ray.dataset.writer import FrameWriter
from tests.support.counter_env import CounterEnv

SECONDS_A_CASE = 60
MEMORY_BYTES = 8 * 2**30
Truth = dict[int, dict[str, bytes]]


def sound_shards(folder: Path) -> list[bytes]:
    """Two episodes in three row groups, as they are written here, and the same with pages of 4 kB."""
    generator = np.random.default_rng(0)
    env = CounterEnv(height=20)
    with FrameWriter(folder, env.info, "shard", "counter") as writer:
        for episode_id, length in enumerate((140, 3)):
            step = env.reset(episode_id)
            writer.begin_episode(episode_id)
            for number in range(length + 1):
                step.frames.screens[:] = generator.integers(0, 2, step.frames.screens.shape)
                writer.append(0 if number else NO_ACTION, step.frames, terminated=False, truncated=False)
                step = env.step(0)
            writer.end_episode()
    path = folder / "shard-00000.parquet"
    content, table = path.read_bytes(), pq.read_table(path)
    options = {"compression": "zstd", "write_page_checksum": True, "data_page_size": 4096, "write_batch_size": 5}
    with pq.ParquetWriter(path, table.schema, **options) as writer:
        for start, stop in ((0, 512), (512, 561), (561, 574)):
            writer.write_table(table.slice(start, stop - start))
    return [content, path.read_bytes()]


def mutate(content: bytes, generator: np.random.Generator) -> bytes:
    """One to three changes: bits, bytes, zeros, noise, cuts, insertions, copies; half of them in the footer.

    A quarter of all are one changed number of the footer: where a chunk of a column lies, or how long it is.
    """
    data = bytearray(content)
    if generator.random() < 0.25:
        return _with_another_place(data, generator)
    for _ in range(generator.integers(1, 4)):
        low = max(len(data) - _footer_bytes(content), 0) if generator.random() < 0.5 else 0
        place = int(generator.integers(low, max(len(data), 1))) if len(data) > low else 0
        length = int(generator.integers(1, 64))
        match generator.integers(0, 8):
            case 0 | 1:
                data[place : place + 1] = bytes([data[place] ^ (1 << int(generator.integers(8)))]) if data else b""
            case 2:
                data[place : place + 1] = generator.bytes(1)
            case 3:
                data[place : place + length] = bytes(length)
            case 4:
                data[place : place + length] = generator.bytes(length)
            case 5:
                del data[place : place + length]
            case 6:
                data[place:place] = generator.bytes(length)
            case 7:
                source = int(generator.integers(0, max(len(data), 1)))
                data[place : place + length] = data[source : source + length]
    return bytes(data) if generator.random() > 0.05 else bytes(data[: int(generator.integers(0, len(data) + 1))])


def _with_another_place(data: bytearray, generator: np.random.Generator) -> bytes:
    """Flip a bit of one of the footer's numbers for a place or a size, or write another chunk's number there."""
    chunks = _chunks(bytes(data))
    number = varint(int(generator.choice(chunks.ravel())))
    places = [at for at in _occurrences(bytes(data), number) if at >= len(data) - _footer_bytes(data)]
    place = int(generator.choice(places))
    others = [other for value in chunks.ravel() if len(other := varint(int(value))) == len(number)]
    if generator.random() < 0.5:
        data[place : place + len(number)] = others[int(generator.integers(len(others)))]
    else:
        data[place + int(generator.integers(len(number)))] ^= 1 << int(generator.integers(8))
    return bytes(data)


def _chunks(content: bytes) -> np.ndarray:
    """Where each chunk of a column begins, and its bytes, int64 [chunks, 2]."""
    footer = pq.read_metadata(io.BytesIO(content))
    chunks = [footer.row_group(g).column(c) for g in range(footer.num_row_groups) for c in range(footer.num_columns)]
    return np.array([(chunk.data_page_offset, chunk.total_compressed_size) for chunk in chunks])


def _footer_bytes(data: bytes | bytearray) -> int:
    return int.from_bytes(data[-8:-4], "little") + 8


def varint(value: int) -> bytes:
    """As Thrift's compact protocol writes an integer: zigzag, seven bits a byte."""
    value, written = value << 1, bytearray()
    while value >= 128:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])


def _occurrences(data: bytes, part: bytes) -> list[int]:
    return [match.start() for match in re.finditer(re.escape(part), data)]


def read_all(path: Path) -> Truth:
    """All that can be read of a shard: columns, screens at once and in part, RAM."""
    info, episodes = read_shards([path])
    told: Truth = {-1: {"info": repr(info).encode() + info.palette.tobytes()}}
    for episode_id, rows in episodes.items():
        ram = rows.ram()
        told[episode_id] = {
            **{name: column.tobytes() for name, column in rows.columns.items()},
            "screens": b"".join(screens.tobytes() for screens in rows.screens()),
            "part": _part(rows),
            "ram": b"" if ram is None else ram.tobytes(),
            "policy": rows.policy.encode(),
        }
    return told


def _part(rows: EpisodeRows) -> bytes:
    first, stop = rows.num_frames // 3, rows.num_frames // 2
    return b"".join(screens.tobytes() for screens in rows.screens(first, stop))


def outcome(path: Path, truth: Truth) -> str:
    try:
        told = read_all(path)
    except LapaError as error:
        lines = str(error).splitlines()
        return "refused" if lines[0].startswith(str(path)) and len(lines) <= 2 else f"badly told: {error}"
    except Exception as error:
        return f"escaped: {error!r}"
    return "harmless" if told == truth else "wrong data"


def main(folder: Path, seed: int, count: int) -> None:
    contents = sound_shards(folder)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    path = folder / "shard-00000.parquet"
    truths = []
    for content in contents:
        path.write_bytes(content)
        truths.append(read_all(path))
    outcomes: Counter[str] = Counter()
    for case in range(count):
        generator = np.random.default_rng([seed, case])
        base = int(generator.integers(len(contents)))
        path.write_bytes(mutate(contents[base], generator))
        print(json.dumps({"case": case}), flush=True)
        faulthandler.dump_traceback_later(SECONDS_A_CASE, exit=True)  # a hang says where, on standard error
        result = outcome(path, truths[base])
        faulthandler.cancel_dump_traceback_later()
        outcomes[result if result in {"refused", "harmless"} else "wrong"] += 1
        if result not in {"refused", "harmless"}:
            print(json.dumps({"case": case, "base": base, "wrong": result}), flush=True)
    print(json.dumps({"outcomes": outcomes}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
