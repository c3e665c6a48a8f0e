"""Blocks of episode ids: each is given out once, whatever is killed and resumed between."""

from __future__ import annotations

import json
from pathlib import Path

from lapa_ray.core.errors import LapaError
from lapa_ray.core.files import write_json

EPISODES_PER_BLOCK = 1_000_000
"""Block b stands for the episode ids b × this + 0, 1, 2, …"""


class EpisodeBlocks:
    """Gives out blocks from a count in a file, written before a block is used: a kill may waste one, never repeat it.

    It cannot be kept in the checkpoints: what was recorded between the last of them and a kill is kept too.
    """

    def __init__(self, path: Path) -> None:
        """Continue the count in `path`. Raises `LapaError` if it is damaged."""
        self._path = path
        self._next = _read(path) if path.exists() else 0

    def take(self, count: int) -> list[int]:
        """`count` blocks that nobody had before."""
        first, self._next = self._next, self._next + count
        write_json(self._path, {"next_block": self._next})
        return list(range(first, self._next))


def _read(path: Path) -> int:
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["next_block"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LapaError(f"{path}: damaged ({error}); start again in another --out.") from error
