"""The Parquet schema of frames and what its metadata says. One row an emulator frame; see docs/dataset.md."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from lapa_ray.core.errors import LapaError
from lapa_ray.core.frames import RAM_BYTES, GameInfo

FORMAT = "lapa_ray frames"
VERSION = 1
METADATA_KEY = b"lapa_ray"
ROW_GROUP_ROWS = 512
RESET_STEP = -1
"""`step` of the reset frame; the first step is 0."""


def frame_schema(info: GameInfo, policy: str) -> pa.Schema:
    """Schema for screens of `info`, recorded by `policy`; the metadata lets a shard explain itself."""
    fields = [
        pa.field("episode_id", pa.int64(), nullable=False),
        pa.field("step", pa.int32(), nullable=False),
        pa.field("frame_index", pa.int32(), nullable=False),
        pa.field("screen", pa.binary(info.height * info.width), nullable=False),
        pa.field("ram", pa.binary(RAM_BYTES)),
        pa.field("action", pa.int8()),
        pa.field("executed_action", pa.int8()),
        pa.field("reward", pa.float32(), nullable=False),
        pa.field("lives", pa.int8(), nullable=False),
        pa.field("terminated", pa.bool_(), nullable=False),
        pa.field("truncated", pa.bool_(), nullable=False),
    ]
    return pa.schema(fields, metadata={METADATA_KEY: json.dumps(_describe(info, policy)).encode()})


def read_metadata(schema: pa.Schema, source: str) -> tuple[GameInfo, str]:
    """Game and recording policy from a shard's schema. Raises `LapaError` naming `source` if it is none."""
    raw = (schema.metadata or {}).get(METADATA_KEY)
    if raw is None:
        raise LapaError(f"{source}: not a frame shard of lapa_ray (its metadata has no 'lapa_ray' entry); remove it.")
    try:
        said = json.loads(raw)
        if said["format"] != FORMAT:
            raise LapaError(f"{source}: holds {said['format']}, not frames; remove it.")
        if said["version"] != VERSION:
            raise LapaError(f"{source}: frames of version {said['version']}; this lapa_ray reads version {VERSION}.")
        info = _game_info(said)
    except (ValueError, KeyError, TypeError) as error:
        raise LapaError(f"{source}: its metadata is damaged ({error!r}); record it again.") from error
    expected = frame_schema(info, said["policy"])
    if not schema.equals(expected, check_metadata=False):
        raise LapaError(f"{source}: its columns are not those of frames version {VERSION}; see docs/dataset.md.")
    return info, said["policy"]


def _describe(info: GameInfo, policy: str) -> dict[str, object]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "game": info.game,
        "height": info.height,
        "width": info.width,
        "palette": info.palette.tobytes().hex(),
        "action_meanings": list(info.action_meanings),
        "frame_skip": info.frame_skip,
        "sticky_probability": info.sticky_probability,
        "emulator": info.emulator,
        "policy": policy,
    }


def _game_info(said: dict[str, object]) -> GameInfo:
    palette = np.frombuffer(bytes.fromhex(str(said["palette"])), dtype=np.uint8).reshape(256, 3)
    return GameInfo(
        game=str(said["game"]),
        palette=palette,
        action_meanings=tuple(str(name) for name in said["action_meanings"]),  # type: ignore[attr-defined]
        height=int(said["height"]),  # type: ignore[call-overload]
        width=int(said["width"]),  # type: ignore[call-overload]
        frame_skip=int(said["frame_skip"]),  # type: ignore[call-overload]
        sticky_probability=float(said["sticky_probability"]),  # type: ignore[arg-type]
        emulator=str(said["emulator"]),
    )
