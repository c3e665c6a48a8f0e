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
        self._end_of_given = 0

    def take(self, count: int) -> list[int]:
        """`count` blocks that nobody had before."""
        first, self._next = self._next, self._next + count
        write_json(self._path, {"next_block": self._next})
        self._end_of_given = self._next
        return list(range(first, self._next))

    def get_state(self) -> dict[str, int]:
        """The next block."""
        return {"next_block": self._next}

    def set_state(self, state: dict[str, int]) -> None:
        """Go on from a state, or from where the file is if that is farther: no block is given twice."""
        self._next = max(self._next, int(state["next_block"]))

    def check_valid(self) -> None:
        """Raise `AssertionError` if a block was given out that the file does not tell of."""
        assert 0 <= self._end_of_given <= self._next, "blocks given out beyond the count"
        written = _read(self._path) if self._end_of_given else 0
        assert self._end_of_given <= written, "a kill now would have blocks given out again"


def _read(path: Path) -> int:
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["next_block"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LapaError(f"{path}: damaged ({error}); start again in another --out.") from error
