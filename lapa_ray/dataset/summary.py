"""Figures of a folder of shards, read back from what was written: they go into the manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lapa_ray.core.errors import LapaError
from lapa_ray.dataset.shards import read_shards, shard_paths


def frame_figures(folder: Path) -> dict[str, float | int | str | None]:
    """Counts, returns and size of the shards in `folder`. Raises `LapaError` if there are none."""
    shards = shard_paths(folder)
    if not shards:
        raise LapaError(f"{folder}: no whole episode was recorded; record longer.")
    info, episodes = read_shards(shards)
    returns = [rows.total_reward for rows in episodes.values()]
    num_frames = sum(rows.num_frames for rows in episodes.values())
    num_bytes = sum(shard.stat().st_size for shard in shards)
    return {
        "game": info.game,
        "num_episodes": len(episodes),
        "num_steps": sum(rows.num_steps for rows in episodes.values()),
        "num_frames": num_frames,
        "num_shards": len(shards),
        "megabytes": round(num_bytes / 1e6, 3),
        "bytes_per_frame": round(num_bytes / num_frames, 1),
        "mean_return": None if "reward" in info.unknown else float(np.mean(returns)),
        "median_return": None if "reward" in info.unknown else float(np.median(returns)),
        "max_return": None if "reward" in info.unknown else float(np.max(returns)),
    }
