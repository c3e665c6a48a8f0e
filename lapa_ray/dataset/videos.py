"""Videos: an episode as one video file, read and written with PyAV, an optional package (the extra `video`)."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.errors import LapaError

SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm")
LOSSLESS = {"codec_name": "libx264rgb", "pix_fmt": "rgb24", "options": {"qp": "0"}}
"""H.264 on RGB without a quantiser. Exact; few players show it."""
VIEWABLE = {"codec_name": "libx264", "pix_fmt": "yuv420p", "options": {"crf": "18"}}
"""H.264 as every player and browser shows it, with half the colour resolution: not exact."""
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def read_video(path: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield the name and the pixels RGB uint8 [H, W, 3] of each frame, as decoded.

    Raises `LapaError` that names the file if it is damaged, or has fewer frames than it says.
    """
    av = _av()
    number = 0
    with _named(path, av), av.open(str(path)) as container:
        if not container.streams.video:
            raise LapaError(f"{path}: has no picture track.")
        stream = container.streams.video[0]
        # Left to itself the decoder fills damaged places in.
        stream.codec_context.options = {"err_detect": "explode"}
        stream.thread_type = "AUTO"
        for number, frame in enumerate(container.decode(stream), start=1):
            if frame.is_corrupt:
                raise LapaError(f"{path}: frame {number - 1} is damaged; restore it from a copy.")
            yield f"{path} frame {number - 1}", frame.to_ndarray(format="rgb24")
        if stream.frames and stream.frames != number:
            raise LapaError(f"{path}: says that it has {stream.frames} frames, but {number} could be decoded.")


def write_video(path: Path, pictures: Iterable[NDArray[np.uint8]], rate: Fraction, *, lossless: bool) -> None:
    """Write RGB pictures uint8 [H, W, 3], `rate` a second, to an MP4 file. Raises `LapaError` without PyAV."""
    av, how = _av(), LOSSLESS if lossless else VIEWABLE
    with _named(path, av), av.open(str(path), "w", format="mp4") as container:
        stream = None
        for picture in pictures:
            if stream is None:
                stream = _new_stream(container, how, rate, picture)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        if stream is not None:
            container.mux(stream.encode(None))


def check_writable(height: int, width: int, *, lossless: bool) -> None:
    """Raise `LapaError` unless pictures of that size can be written."""
    _av()
    if not lossless and (height % 2 or width % 2):
        raise LapaError(f"--lossless false: stores colours of 2×2 pixels, and the pictures have {height}×{width}.")


def _new_stream(container: Any, how: dict[str, Any], rate: Fraction, picture: NDArray[np.uint8]) -> Any:
    stream = container.add_stream(how["codec_name"], rate=rate, options=how["options"])
    stream.height, stream.width = picture.shape[:2]
    stream.pix_fmt = how["pix_fmt"]
    return stream


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise LapaError("videos need the package av; install it with: pip install 'lapa-ray[video]'") from error
    av.logging.set_level(av.logging.PANIC)  # what fails is raised too, and told once
    return av


@contextmanager
def _named(path: Path, av: Any) -> Iterator[None]:
    """What FFmpeg says of a file becomes a `LapaError` that names it; what the system says of the disk stays."""
    try:
        yield
    except av.FFmpegError as error:
        if error.errno in OF_THE_DISK:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise LapaError(f"{path}: cannot be decoded ({error.strerror}); it is damaged, or no video.") from error
