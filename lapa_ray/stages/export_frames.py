"""`export-frames`: frames → PNG folders, videos or NumPy files, which other programs and `import-frames` read."""

from __future__ import annotations

from pathlib import Path

from pydantic import PositiveInt

from lapa_ray.core.artefact import Artefact, Draft
from lapa_ray.core.config import PlainStageConfig
from lapa_ray.core.errors import StoppedError
from lapa_ray.core.progress import Progress
from lapa_ray.core.stop import STOPPING, stop_on_signal
from lapa_ray.dataset.exports import Exporter, Format, PicturesOf
from lapa_ray.dataset.reader import FrameDataset


class ExportFramesConfig(PlainStageConfig):
    """Exports pictures of episodes."""

    frames: Path
    """Frames artefact to export."""
    format: Format = "png"
    """png: a folder of 0.png, 1.png, … an episode; mp4: a video each; npz: a NumPy file each."""
    pictures: PicturesOf = "all"
    """all emulator frames, or one composite a step: max4, max2 or last."""
    lossless: bool = True
    """Videos keep every colour, which few players show; if false, every player and browser shows them, inexactly."""
    num_episodes: PositiveInt | None = None
    """Episodes to export, the first by id; all if not given."""


CONFIG = ExportFramesConfig


def run(config: ExportFramesConfig) -> Artefact:
    """Write the export."""
    dataset = FrameDataset.open(config.frames)
    exporter = Exporter(dataset, config.out, config.format, config.pictures, config.lossless)
    exporter.check()
    draft = Draft.begin(config, "export", {"frames": dataset.artefact})
    episode_ids = dataset.episode_ids[: config.num_episodes]
    left = [episode_id for episode_id in episode_ids if not exporter.path(episode_id).exists()]
    done = len(episode_ids) - len(left)
    with (
        stop_on_signal(said=STOPPING) as stop,
        Progress("export-frames", len(episode_ids), "episodes", initial=done) as progress,
    ):
        for number, episode_id in enumerate(left):
            if stop:
                draft.pause()
                raise StoppedError(f"stopped with {done + number} of {len(episode_ids)} episodes; add --resume.")
            exporter.write(episode_id)
            progress.advance()
    return draft.finish(_figures(exporter, episode_ids))


def _figures(exporter: Exporter, episode_ids: list[int]) -> dict[str, float | int | str | None]:
    files = [file for file in exporter.folder.rglob("*") if file.is_file()]
    return {
        "game": exporter.dataset.info.game,
        "num_episodes": len(episode_ids),
        "num_pictures": sum(map(exporter.num_pictures, episode_ids)),
        "megabytes": round(sum(file.stat().st_size for file in files) / 1e6, 3),
    }
