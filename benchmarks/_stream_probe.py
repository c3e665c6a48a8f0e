"""A process that streams a dataset once, as a training would: `python -m benchmarks._stream_probe FOLDER`.

Prints the seconds from opening the dataset to the first batch, then streams one epoch; who started it watches its
memory.
"""

from __future__ import annotations

import json
import sys
import time

import torch

from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.stream import Draw, PictureStream

BATCH_SIZE = 32


def main(folder: str) -> None:
    """Stream `folder`."""
    start = time.perf_counter()
    dataset = FrameDataset.open(folder)
    with PictureStream(dataset, dataset.episode_ids, Draw(BATCH_SIZE)) as stream:
        num_pairs = len(stream.next_batch())
        first_s = time.perf_counter() - start
        for batch in stream:
            frame_t, _ = torch.from_numpy(batch.pictures)
            num_pairs += len(frame_t)
    print(json.dumps({"first_batch_s": first_s, "num_pairs": num_pairs, "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main(sys.argv[1])
