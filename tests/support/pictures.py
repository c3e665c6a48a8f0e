"""Made-up pictures whose content is known: a palette, and a bright square that wanders over still stripes."""

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 210, 160


def grey_palette() -> NDArray[np.uint8]:
    return np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


def wandering_square(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Palette indices uint8 [count, 210, 160]; the square jumps anew in each picture."""
    generator = np.random.default_rng(seed)
    stripes = (np.arange(WIDTH) // 40 * 30).astype(np.uint8)
    pictures = np.tile(stripes, (count, HEIGHT, 1))
    for picture in pictures:
        top, left = generator.integers(0, HEIGHT - 40), generator.integers(0, WIDTH - 40)
        picture[top : top + 40, left : left + 40] = 250
    return pictures
