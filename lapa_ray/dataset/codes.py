"""The code dataset: one row a step, joinable with the frames on (episode_id, step). Knows no model.

Parquet, one file an episode. Row t of an episode holds the codes of the pair (c_t, c_t+1) and the action, executed
action, reward and end flags of step t, which led from c_t to c_t+1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lapa_ray.core.artefact import Artefact, check_same_parent, open_artefact
from lapa_ray.core.errors import LapaError
from lapa_ray.core.files import replacing
from lapa_ray.core.pictures import Composite, Screen
from lapa_ray.dataset.reader import FrameDataset

NUM_TOKENS = 35


@dataclass(frozen=True)
class CodeEpisode:
    """codes int16 [T, 35], row-major over 7×5; actions, executed_actions int8 [T]; rewards float32 [T]; flags bool [T].

    `actions` are those asked for; −1 where an import did not know.
    """

    codes: NDArray[np.int16]
    actions: NDArray[np.int8]
    executed_actions: NDArray[np.int8]
    rewards: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.codes)


def code_schema() -> pa.Schema:
    """Columns of a code file."""
    return pa.schema(
        [
            pa.field("episode_id", pa.int64(), nullable=False),
            pa.field("step", pa.int32(), nullable=False),
            pa.field("codes", pa.list_(pa.int16(), NUM_TOKENS), nullable=False),
            pa.field("action", pa.int8(), nullable=False),
            pa.field("executed_action", pa.int8(), nullable=False),
            pa.field("reward", pa.float32(), nullable=False),
            pa.field("terminated", pa.bool_(), nullable=False),
            pa.field("truncated", pa.bool_(), nullable=False),
        ]
    )


def codes_path(folder: Path, episode_id: int) -> Path:
    """File of an episode."""
    return folder / f"episode-{episode_id:012d}.parquet"


def write_codes(folder: Path, episode_id: int, episode: CodeEpisode) -> None:
    """Write an episode's file, by rename."""
    columns = [
        pa.array(np.full(len(episode), episode_id)),
        pa.array(np.arange(len(episode), dtype=np.int32)),
        pa.FixedSizeListArray.from_arrays(pa.array(episode.codes.astype(np.int16).ravel()), NUM_TOKENS),
        pa.array(episode.actions),
        pa.array(episode.executed_actions),
        pa.array(episode.rewards),
        pa.array(episode.terminated),
        pa.array(episode.truncated),
    ]
    with replacing(codes_path(folder, episode_id)) as temporary:
        table = pa.Table.from_arrays(columns, schema=code_schema())
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def read_codes(path: Path) -> CodeEpisode:
    """Read an episode's file. Raises `LapaError` naming it if it is damaged."""
    try:
        table = pq.read_table(path, schema=code_schema(), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise LapaError(f"{path}: corrupt code file ({str(error).splitlines()[0]}); run extract again.") from error
    values = table.column("codes").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    small = {name: table.column(name).to_numpy() for name in table.column_names if name != "codes"}
    return CodeEpisode(
        codes=values.reshape(-1, NUM_TOKENS),
        actions=small["action"],
        executed_actions=small["executed_action"],
        rewards=small["reward"],
        terminated=small["terminated"],
        truncated=small["truncated"],
    )


class CodeDataset:
    """The codes of a frame dataset, in memory (70 bytes a step)."""

    def __init__(self, artefact: Artefact, episodes: dict[int, CodeEpisode]) -> None:
        self.artefact = artefact
        self._episodes = episodes

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a whole codes artefact. Raises `LapaError` that names the artefact or file at fault."""
        artefact = open_artefact(path, "codes")
        files = sorted(path.glob("episode-*.parquet"))
        episodes = {int(file.stem.removeprefix("episode-")): read_codes(file) for file in files}
        if len(episodes) != artefact.manifest.figures["num_episodes"]:
            raise LapaError(f"{path}: {len(episodes)} of its code files are there; run extract again.")
        return cls(artefact, episodes)

    @property
    def codebook_size(self) -> int:
        """Codes are below this."""
        return int(self.artefact.manifest.figures["codebook_size"] or 0)

    @property
    def num_actions(self) -> int:
        """Actions are below this."""
        return int(self.artefact.manifest.figures["num_actions"] or 0)

    @property
    def episode_ids(self) -> list[int]:
        """Ids of all episodes, ascending."""
        return sorted(self._episodes)

    def episode(self, episode_id: int) -> CodeEpisode:
        """The codes of an episode."""
        return self._episodes[episode_id]


def joined(
    codes: CodeDataset, frames: FrameDataset, composite: Composite = "max4"
) -> Iterator[tuple[Screen, NDArray[np.int16], Screen]]:
    """Yield (c_t uint8 [height, width], codes int16 [35], c_t+1) of every step of every episode.

    Raises `LapaError` if the codes were made from other frames.
    """
    check_same_parent(codes.artefact, "frames", frames.artefact)
    for episode_id in codes.episode_ids:
        pictures = frames.composites(episode_id, composite)
        for step, grid in enumerate(codes.episode(episode_id).codes):
            yield pictures[step], grid, pictures[step + 1]
