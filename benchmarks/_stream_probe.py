"""A process that streams a dataset once, as a training would: `python -m benchmarks._stream_probe FOLDER`.

Prints the seconds from opening the dataset to the first batch and, unless that was all that was asked for, the pairs
and seconds of one epoch and the greatest resident memory of the process (RSS).
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time

import torch

from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.stream import Draw, PictureStream
from lapa_ray.stages.pair_sources import WINDOW_GB

BATCH_SIZE = 32
RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes of what `getrusage` counts in."""


def main() -> None:
    """Stream a folder."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks._stream_probe")
    parser.add_argument("folder")
    parser.add_argument("--first-batch-only", action="store_true")
    arguments = parser.parse_args()
    start = time.perf_counter()
    dataset = FrameDataset.open(arguments.folder)
    with PictureStream(dataset, dataset.episode_ids, Draw(BATCH_SIZE), WINDOW_GB) as stream:
        num_pairs = len(stream.next_batch())
        first_s = time.perf_counter() - start
        for batch in () if arguments.first_batch_only else stream:
            frame_t, _ = torch.from_numpy(batch.pictures)
            num_pairs += len(frame_t)
    told = {"first_batch_s": first_s, "num_pairs": num_pairs, "seconds": time.perf_counter() - start}
    print(json.dumps(told | {"resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT}))


if __name__ == "__main__":
    main()
