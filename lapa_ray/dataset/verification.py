"""Verification: a frame dataset in, every row and page of it read, what is wrong with it out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lapa_ray.core.errors import LapaError
from lapa_ray.dataset.reader import FrameDataset


@dataclass(frozen=True)
class VerificationReport:
    """What was read, and the `faults` that were found, each one or two lines that name the shard or the artefact."""

    num_shards: int
    num_episodes: int
    num_steps: int
    num_frames: int
    num_unchecked: int
    """Row groups whose screens have no checksum: what is wrong in them may have gone unseen."""
    faults: tuple[str, ...]

    @property
    def is_sound(self) -> bool:
        """Whether all of it is as it was written."""
        return not self.faults


def verify(dataset: FrameDataset, progress: Callable[[int], None] = lambda _frames: None) -> VerificationReport:
    """Read all that opening did not: screens and RAM of every row, with the checksum of every page.

    Opening has read the other columns, and checked that episodes are whole and none is missing. `progress` is called
    after each episode with the number of its frames. A fault in one episode does not keep the others from being read.
    """
    faults = []
    for episode_id in dataset.episode_ids:
        try:
            _read(dataset, episode_id)
        except LapaError as error:
            faults.append(str(error))
        progress(dataset.rows(episode_id).num_frames)
    episodes = [dataset.rows(episode_id) for episode_id in dataset.episode_ids]
    return VerificationReport(
        num_shards=len({str(rows.shard) for rows in episodes}),
        num_episodes=len(episodes),
        num_steps=dataset.num_steps_total,
        num_frames=sum(rows.num_frames for rows in episodes),
        num_unchecked=sum(rows.groups_without_checksum() for rows in episodes),
        faults=tuple(dict.fromkeys(faults)),
    )


def _read(dataset: FrameDataset, episode_id: int) -> None:
    rows = dataset.rows(episode_id)
    if (num_screens := sum(map(len, rows.screens()))) != rows.num_frames:
        raise LapaError(f"{rows.shard}: {num_screens} screens of episode {episode_id}, which has {rows.num_frames}.")
    rows.ram()
