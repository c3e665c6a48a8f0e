"""Images: pixel arrays → PNG, as files or data URIs, at their own size; the page enlarges them without smoothing.

Knows nothing of what they show.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.files import replacing

Rgb = NDArray[np.uint8]

HEAT_SCALE_LEVELS = 96.0
"""Mean absolute error of a pixel, in 8-bit levels, that is shown as the hottest colour; worse ones look the same."""


def png_data_uri(rgb: Rgb) -> str:
    """RGB uint8 [H, W, 3] as a `data:image/png` URI, lossless."""
    return _data_uri(_png(rgb))


def png_file_uri(path: Path) -> str:
    """A PNG file as a `data:image/png` URI."""
    return _data_uri(path.read_bytes())


def write_png(path: Path, rgb: Rgb) -> None:
    """Write RGB uint8 [H, W, 3] to `path`, by rename."""
    with replacing(path) as temporary:
        temporary.write_bytes(_png(rgb))


def contact_sheet(rows: Sequence[Sequence[Rgb]], gap: int = 4) -> Rgb:
    """Pictures uint8 [H, W, 3] of one size set into rows, `gap` white pixels apart; short rows end in white."""
    height, width, _ = rows[0][0].shape
    sheet = np.full((len(rows) * (height + gap) - gap, max(map(len, rows)) * (width + gap) - gap, 3), 255, np.uint8)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            top, left = y * (height + gap), x * (width + gap)
            sheet[top : top + height, left : left + width] = picture
    return sheet


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _png(rgb: Rgb) -> bytes:
    done, encoded = cv2.imencode(".png", rgb[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert done
    return encoded.tobytes()


def error_heat(predicted: Rgb, true: Rgb) -> Rgb:
    """Absolute error of RGB uint8 [..., 3], averaged over the channels, as colours of the same shape (inferno)."""
    error = np.abs(predicted.astype(np.float32) - true.astype(np.float32)).mean(axis=-1)
    return colour(error / HEAT_SCALE_LEVELS)


def colour(shares: NDArray[np.floating]) -> Rgb:
    """Shares in [0, 1] [...] as RGB uint8 [..., 3], from black over red to light yellow; beyond 1 as 1."""
    table = mpl.colormaps["inferno"]
    return (table(np.clip(shares, 0, 1))[..., :3] * 255).round().astype(np.uint8)


def code_matrix(counts: NDArray[np.integer]) -> Rgb:
    """Counts [positions, codes] as a picture uint8 [positions, codes, 3]: each row's shares, on a square-root scale."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return colour(np.sqrt(shares / max(float(shares.max()), 1e-9)))
