"""The Parquet schema of frames and what its metadata says. One row an emulator frame; see docs/dataset.md."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lapa_ray.core.errors import LapaError
from lapa_ray.core.frames import RAM_BYTES, GameInfo

FORMAT = "lapa_ray frames"
VERSION = 1
METADATA_KEY = b"lapa_ray"
ROW_GROUP_ROWS = 512
ROW_GROUP_BYTES = 32 * 2**20
"""Of screens: large ones have fewer rows in a group."""
COLOURS = {1: 256, 3: 0}
"""Colours of the palette by channels of a screen: RGB has none."""
RESET_STEP = -1
"""`step` of the reset frame; the first step is 0."""
CHECKSUM_KEY = b"lapa_ray_crc32"
"""CRC-32 of the entry above it: pages have checksums in Parquet, the metadata has none."""
INDEX_COLUMNS = ["episode_id", "step", "frame_index", "action", "executed_action", "reward", "lives", "terminated",
                 "truncated"]  # fmt: skip
"""The small columns: all but `screen` and `ram`."""


@dataclass(frozen=True)
class ShardInfo:
    """What a shard says of itself: its game, who played, the identity of the artefact that it was written for."""

    game: GameInfo
    policy: str
    recording: str | None
    has_footer_checksum: bool
    """Whether it was written with a checksum before its footer."""


def frame_schema(info: GameInfo, policy: str, recording: str | None = None) -> pa.Schema:
    """Schema for screens of `info`, recorded by `policy`; the metadata lets a shard explain itself."""
    fields = [
        pa.field("episode_id", pa.int64(), nullable=False),
        pa.field("step", pa.int32(), nullable=False),
        pa.field("frame_index", pa.int32(), nullable=False),
        pa.field("screen", pa.binary(info.screen_bytes), nullable=False),
        pa.field("ram", pa.binary(RAM_BYTES)),
        pa.field("action", pa.int8()),
        pa.field("executed_action", pa.int8()),
        pa.field("reward", pa.float32(), nullable=False),
        pa.field("lives", pa.int8(), nullable=False),
        pa.field("terminated", pa.bool_(), nullable=False),
        pa.field("truncated", pa.bool_(), nullable=False),
    ]
    said = json.dumps(_describe(info, policy, recording)).encode()
    return pa.schema(fields, metadata={METADATA_KEY: said, CHECKSUM_KEY: _checksum(said)})


def row_group_rows(info: GameInfo) -> int:
    """The most rows that a row group of screens of `info` takes."""
    return min(max(ROW_GROUP_BYTES // info.screen_bytes, 1), ROW_GROUP_ROWS)


def read_metadata(schema: pa.Schema, source: str) -> ShardInfo:
    """What a shard's schema says of it. Raises `LapaError` naming `source` if it is none."""
    said = _said(schema.metadata or {}, source)
    if said["version"] != VERSION:
        raise LapaError(
            f"{source}: frames of version {said['version']}, but this lapa_ray reads version {VERSION}; "
            "use the lapa_ray that wrote it, or record it again."
        )
    try:
        info = _game_info(said)
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(source, error) from error
    expected = frame_schema(info, said["policy"])
    if not schema.equals(expected, check_metadata=False):
        raise LapaError(f"{source}: its columns are not those of frames version {VERSION}; see docs/dataset.md.")
    return ShardInfo(info, said["policy"], said.get("recording"), said.get("footer_checksum") is True)


def _said(metadata: dict[bytes, bytes], source: str) -> dict[str, Any]:
    """The metadata entry of a frame shard of any version."""
    raw = metadata.get(METADATA_KEY)
    if raw is None:
        raise LapaError(f"{source}: not a frame shard of lapa_ray (its metadata has no 'lapa_ray' entry); remove it.")
    try:
        if metadata.get(CHECKSUM_KEY, _checksum(raw)) != _checksum(raw):
            raise ValueError("its checksum differs")
        said: dict[str, Any] = json.loads(raw)
        if (said["format"], type(said["version"]), type(said["policy"])) != (FORMAT, int, str):
            raise ValueError("not of frames")
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(source, error) from error
    return said


def _damaged(source: str, error: Exception) -> LapaError:
    return LapaError(f"{source}: its metadata is damaged ({error!r}); restore it from a copy, or record it again.")


def _checksum(raw: bytes) -> bytes:
    return f"{zlib.crc32(raw):08x}".encode()


def _describe(info: GameInfo, policy: str, recording: str | None) -> dict[str, object]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "game": info.game,
        "height": info.height,
        "width": info.width,
        "channels": info.channels,
        "palette": info.palette.tobytes().hex(),
        "action_meanings": list(info.action_meanings),
        "frame_skip": info.frame_skip,
        "sticky_probability": info.sticky_probability,
        "emulator": info.emulator,
        "unknown": list(info.unknown),
        "policy": policy,
        "recording": recording,
        "footer_checksum": True,
    }


def _game_info(said: dict[str, Any]) -> GameInfo:
    channels, palette = int(said["channels"]), np.frombuffer(bytes.fromhex(said["palette"]), dtype=np.uint8)
    if channels not in COLOURS or min(said["height"], said["width"], said["frame_skip"]) < 1:
        raise ValueError(f"screens of {said['height']}×{said['width']}×{channels}, {said['frame_skip']} a step")
    return GameInfo(
        game=str(said["game"]),
        palette=palette.reshape(COLOURS[channels], 3),
        action_meanings=tuple(str(name) for name in said["action_meanings"]),
        height=int(said["height"]),
        width=int(said["width"]),
        frame_skip=int(said["frame_skip"]),
        sticky_probability=float(said["sticky_probability"]),
        emulator=str(said["emulator"]),
        channels=channels,
        unknown=tuple(str(name) for name in said.get("unknown", [])),
    )
