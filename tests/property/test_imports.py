"""What is imported is what was there, to the last bit, whatever form it came in."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.imports import ale_pictures, grey_pictures, import_frames, rgb_pictures, shown, write_source

MAKE = {"ale": ale_pictures, "rgb": rgb_pictures, "grey": grey_pictures}
LENGTHS = st.lists(st.integers(2, 12), min_size=1, max_size=3)


@pytest.mark.parametrize("form", ["png", "npy", "npz"])
@settings(max_examples=12, deadline=None)
@given(LENGTHS, st.sampled_from(list(MAKE)), st.integers(1, 5), st.integers(0, 99))
def test_every_form_is_imported_without_a_loss(
    form: str, lengths: list[int], colours: str, frame_skip: int, seed: int
) -> None:
    episodes = [MAKE[colours](length, seed + place) for place, length in enumerate(lengths)]
    with tempfile.TemporaryDirectory() as folder:
        for number, pictures in enumerate(episodes):
            write_source(form, Path(folder, "source", f"episode_{number + 7}"), pictures)
        dataset = import_frames(Path(folder, "source"), Path(folder, "out"), f"--frame_skip={frame_skip}")
        found = shown(dataset)
        steps = [dataset.num_steps(episode_id) for episode_id in dataset.episode_ids]
    assert list(found) == [number + 7 for number in range(len(lengths))]
    assert steps == [-(-(length - 1) // frame_skip) for length in lengths]
    for pictures, imported in zip(episodes, found.values(), strict=True):
        expected = pictures if pictures.ndim == 4 else np.repeat(pictures[..., None], 3, axis=3)
        np.testing.assert_array_equal(imported, expected)


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 9), st.sampled_from([(6, 4), (7, 5), (210, 160)]), st.integers(0, 99))
def test_lossless_video_is_imported_without_a_loss(length: int, size: tuple[int, int], seed: int) -> None:
    pictures = ale_pictures(length, seed, *size)
    with tempfile.TemporaryDirectory() as folder:
        write_source("mp4", Path(folder, "film"), pictures)
        dataset = import_frames(Path(folder, "film.mp4"), Path(folder, "out"))
        assert dataset.info.channels == 1
        np.testing.assert_array_equal(shown(dataset)[0], pictures)
