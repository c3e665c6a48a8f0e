"""Images: pixel arrays → PNG as data URIs, at their own size; the page enlarges them without smoothing.

Knows nothing of what they show.
"""

from __future__ import annotations

import base64

import cv2
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]

HEAT_SCALE_LEVELS = 96.0
"""Mean absolute error of a pixel, in 8-bit levels, that is shown as the hottest colour; worse ones look the same."""


def png_data_uri(rgb: Rgb) -> str:
    """RGB uint8 [H, W, 3] as a `data:image/png` URI, lossless."""
    done, encoded = cv2.imencode(".png", rgb[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert done
    return "data:image/png;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


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
