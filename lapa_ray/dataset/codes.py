"""The code dataset: one row a step, joinable with the frames on (episode_id, step). Knows no model.

Parquet, one file an episode. Row t of an episode holds the codes of the pair (c_t, c_t+1) and the action, executed
action, reward and end flags of step t, which led from c_t to c_t+1. The schema metadata says what the codes mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lapa_ray.core.artefact import Artefact, check_same_parent, open_artefact
from lapa_ray.core.errors import LapaError
from lapa_ray.core.files import replacing
from lapa_ray.core.pictures import Composite, Screen
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.schema import METADATA_KEY

FORMAT = "lapa_ray codes"
VERSION = 1


@dataclass(frozen=True)
class CodeInfo:
    """What a file needs to explain itself; `vqvae` and `frames` are the identities of what it was made from."""

    game: str
    action_meanings: tuple[str, ...]
    codebook_size: int
    grid: tuple[int, int]
    composite: Composite
    vqvae: str
    frames: str

    @property
    def num_tokens(self) -> int:
        """Codes of a pair."""
        rows, columns = self.grid
        return rows * columns


@dataclass(frozen=True)
class CodeEpisode:
    """codes int16 [T, tokens], row-major over the grid; actions, executed_actions int8 [T]; rewards float32 [T]; flags
    bool [T].

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


def code_schema(info: CodeInfo) -> pa.Schema:
    """Columns of a code file; `codes` is a list of fixed size, so that every Parquet reader sees the numbers."""
    said = {"format": FORMAT, "version": VERSION, **asdict(info)}
    return pa.schema(
        [
            pa.field("episode_id", pa.int64(), nullable=False),
            pa.field("step", pa.int32(), nullable=False),
            pa.field("codes", pa.list_(pa.int16(), info.num_tokens), nullable=False),
            pa.field("action", pa.int8(), nullable=False),
            pa.field("executed_action", pa.int8(), nullable=False),
            pa.field("reward", pa.float32(), nullable=False),
            pa.field("terminated", pa.bool_(), nullable=False),
            pa.field("truncated", pa.bool_(), nullable=False),
        ],
        metadata={METADATA_KEY: json.dumps(said).encode()},
    )


def codes_path(folder: Path, episode_id: int) -> Path:
    """File of an episode."""
    return folder / f"episode-{episode_id:012d}.parquet"


def write_codes(folder: Path, info: CodeInfo, episode_id: int, episode: CodeEpisode) -> None:
    """Write an episode's file, by rename."""
    columns = [
        pa.array(np.full(len(episode), episode_id)),
        pa.array(np.arange(len(episode), dtype=np.int32)),
        pa.FixedSizeListArray.from_arrays(pa.array(episode.codes.astype(np.int16).ravel()), info.num_tokens),
        pa.array(episode.actions),
        pa.array(episode.executed_actions),
        pa.array(episode.rewards),
        pa.array(episode.terminated),
        pa.array(episode.truncated),
    ]
    with replacing(codes_path(folder, episode_id)) as temporary:
        table = pa.Table.from_arrays(columns, schema=code_schema(info))
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def read_codes(path: Path) -> tuple[CodeInfo, CodeEpisode]:
    """Read an episode's file. Raises `LapaError` naming it if it is damaged or no code file."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            info = _read_info(file.schema_arrow, path)
            table = file.read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise LapaError(f"{path}: corrupt code file ({reason}); run extract again.") from error
    _check_rows(table, info, path)
    small = {name: table.column(name).to_numpy() for name in table.column_names if name != "codes"}
    return info, CodeEpisode(
        codes=_grids(table, info),
        actions=small["action"],
        executed_actions=small["executed_action"],
        rewards=small["reward"],
        terminated=small["terminated"],
        truncated=small["truncated"],
    )


class CodeDataset:
    """The codes of a frame dataset, in memory (80 bytes a step)."""

    def __init__(self, artefact: Artefact, info: CodeInfo, episodes: dict[int, CodeEpisode]) -> None:
        self.artefact = artefact
        self.info = info
        self._episodes = episodes

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a whole codes artefact. Raises `LapaError` that names the artefact or file at fault."""
        artefact = open_artefact(path, "codes")
        files = sorted(path.glob("episode-*.parquet"))
        num_episodes = artefact.manifest.figures["num_episodes"]
        if not files or len(files) != num_episodes:
            raise LapaError(f"{path}: {len(files)} of its {num_episodes} code files are there; run extract again.")
        read = {_episode_id(file): read_codes(file) for file in files}
        first = read[_episode_id(files[0])][0]
        parents = artefact.manifest.parents
        for file in files:
            info = read[_episode_id(file)][0]
            if info != first or (info.vqvae, info.frames) != (parents["vqvae"].identity, parents["frames"].identity):
                raise LapaError(f"{file}: made with another VQ-VAE or of other frames than {path}; run extract again.")
        return cls(artefact, first, {episode_id: episode for episode_id, (_, episode) in read.items()})

    @property
    def codebook_size(self) -> int:
        """Codes are below this."""
        return self.info.codebook_size

    @property
    def num_actions(self) -> int:
        """Actions are below this."""
        return len(self.info.action_meanings)

    @property
    def episode_ids(self) -> list[int]:
        """Ids of all episodes, ascending."""
        return sorted(self._episodes)

    def episode(self, episode_id: int) -> CodeEpisode:
        """The codes of an episode."""
        return self._episodes[episode_id]


def joined(codes: CodeDataset, frames: FrameDataset) -> Iterator[tuple[Screen, NDArray[np.int16], Screen]]:
    """Yield (c_t uint8 [height, width], codes int16 [tokens], c_t+1) of every step of every episode.

    Raises `LapaError` if the codes were made from other frames.
    """
    check_same_parent(codes.artefact, "frames", frames.artefact)
    for episode_id in codes.episode_ids:
        pictures = frames.composites(episode_id, codes.info.composite)
        for step, grid in enumerate(codes.episode(episode_id).codes):
            yield pictures[step], grid, pictures[step + 1]


def _episode_id(path: Path) -> int:
    return int(path.stem.removeprefix("episode-"))


def _read_info(schema: pa.Schema, path: Path) -> CodeInfo:
    try:
        said = json.loads((schema.metadata or {})[METADATA_KEY])
        if (said["format"], said["version"]) != (FORMAT, VERSION):
            raise LapaError(f"{path}: holds {said['format']} {said['version']}, not {FORMAT} {VERSION}; remove it.")
        values = {field.name: said[field.name] for field in fields(CodeInfo)}
        info = CodeInfo(**values | {name: tuple(values[name]) for name in ("action_meanings", "grid")})
    except (ValueError, KeyError, TypeError) as error:
        raise LapaError(f"{path}: not a code file of lapa_ray, or corrupt ({error!r}); run extract again.") from error
    if not schema.equals(code_schema(info), check_metadata=False):
        raise LapaError(f"{path}: its columns are not those of codes version {VERSION}; run extract again.")
    return info


def _grids(table: pa.Table, info: CodeInfo) -> NDArray[Any]:
    values = table.column("codes").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return values.reshape(-1, info.num_tokens)


def _check_rows(table: pa.Table, info: CodeInfo, path: Path) -> None:
    """An episode is one run of steps 0, 1, 2, …, and a code lies in the codebook."""
    codes, length = _grids(table, info), len(table)
    whole = np.array_equal(table.column("step").to_numpy(), np.arange(length)) and bool(
        np.all(table.column("episode_id").to_numpy() == _episode_id(path))
    )
    if not whole:
        raise LapaError(f"{path}: its rows are not one whole episode in order; run extract again.")
    if length and not (codes.min() >= 0 and codes.max() < info.codebook_size):
        raise LapaError(f"{path}: holds codes outside [0, {info.codebook_size}); run extract again.")
