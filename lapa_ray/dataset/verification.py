"""Verification: a frame dataset in, every row and page of it read, what is wrong with it out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lapa_ray.core.errors import LapaError
from lapa_ray.dataset.reader import FrameDataset

COUNTED = ("num_episodes", "num_steps", "num_frames", "num_shards")
"""Figures of the manifest that the shards must bear out."""


@dataclass(frozen=True)
class VerificationReport:
    """What was read, and the `faults` that were found, each one or two lines that name the shard or the artefact."""

    num_shards: int
    num_episodes: int
    num_steps: int
    num_frames: int
    faults: tuple[str, ...]

    @property
    def is_sound(self) -> bool:
        """Whether all of it is as it was written."""
        return not self.faults


def verify(dataset: FrameDataset, progress: Callable[[int], None] = lambda _frames: None) -> VerificationReport:
    """Read all that opening did not: screens and RAM of every row, with the checksum of every page.

    Opening has read the other columns and checked that episodes are whole. `progress` is called after each episode
    with the number of its frames. A fault in one episode does not keep the others from being read.
    """
    faults = []
    for episode_id in dataset.episode_ids:
        try:
            _read(dataset, episode_id)
        except LapaError as error:
            faults.append(str(error))
        progress(dataset.rows(episode_id).num_frames)
    counts = _counts(dataset)
    return VerificationReport(**counts, faults=(*dict.fromkeys(faults), *_miscounts(dataset, counts)))


def _read(dataset: FrameDataset, episode_id: int) -> None:
    rows = dataset.rows(episode_id)
    num_screens = sum(map(len, rows.screens()))
    assert num_screens == rows.num_frames  # `screens` has compared it with the footer
    rows.ram()


def _counts(dataset: FrameDataset) -> dict[str, int]:
    episodes = [dataset.rows(episode_id) for episode_id in dataset.episode_ids]
    return {
        "num_episodes": len(episodes),
        "num_steps": sum(rows.num_steps for rows in episodes),
        "num_frames": sum(rows.num_frames for rows in episodes),
        "num_shards": len({str(rows.shard) for rows in episodes}),
    }


def _miscounts(dataset: FrameDataset, counts: dict[str, int]) -> Iterator[str]:
    """What the manifest says and the shards do not, such as of a shard that was lost."""
    said = dataset.artefact.manifest.figures
    for name in COUNTED:
        if name in said and said[name] != counts[name]:
            what = name.removeprefix("num_")
            yield (
                f"{dataset.name}: {counts[name]} {what}, but its manifest says {said[name]}; "
                "restore what is missing from a copy, or record it again."
            )
