"""The palettes of the Atari 2600 as the ALE shows them: which colour an index of a screen is.

Read off the emulator of ale-py 0.12.1, whose two tables these are: NTSC for 94 of its games, PAL for ten. The tests
hold them against getScreenRGB on real frames. A row below holds two hues in eight shades each, of the even indices.
"""

from __future__ import annotations

import numpy as np
from ale_py import ALEInterface
from numpy.typing import NDArray

from lapa_ray.core.errors import LapaError
from lapa_ray.core.pictures import grey_levels

NOOP = 0
MAX_FRAMES = 600

_NTSC = (
    "0000004a4a4a6f6f6f8e8e8eaaaaaac0c0c0d6d6d6ececec48480069690f86861da2a22abbbb35d2d240e8e84afcfc54"
    "7c2c00904811a26221b47a30c3903dd2a44adfb755ecc860901c00a33915b55328c66c3ad5824ae39759f0aa67fcbc74"
    "940000a71a1ab83232c84848d65c5ce46f6ff08080fc909084006497197aa8308fb846a2c659b3d46cc3e07cd2ec8ce0"
    "50008468199a7d30ad9246c0a459d0b56ce0c57ceed48cfc140090331aa34e32b56848c67f5cd5956fe3a980f0bc90fc"
    "000094181aa72d32b84248c8545cd6656fe47580f08490fc001c88183b9d2d57b04272c2548ad265a0e175b5ef84c8fc"
    "0030641850802d6d984288b054a0c565b7d975cceb84e0fc00403018624e2d8169429e8254b89965d1ae75e7c284fcd4"
    "0044001a661a32843248a0485cba5c6fd26f80e88090fc90143c00355f18527e2d6e9c4287b7549ed065b4e775c8fc84"
    "3038005059166d762b88923ea0ab4fb7c25fccd86ee0ec7c482c00694d14866a26a28638bb9f47d2b656e8cc63fce070"
)
_PAL = (
    "0000002b2b2b525252767676979797b6b6b6d2d2d2ececec0000002b2b2b525252767676979797b6b6b6d2d2d2ececec"
    "80580096711aab8732be9c48cfaf5cdfc06feed180fce090445c005e791a7693328cac48a0c25cb3d76fc4ea80d4fc90"
    "70340089511aa06b32b68448c99a5cdcaf6fecc280fcd4900064141a803532985248b06e5cc5876fd99e80ebb490fcc8"
    "700014891a35a03252b6486ec95c87dc6f9eec80b4fc90c8005c5c1a7676328e8e48a4a45cb8b86fcbcb80dcdc90ecec"
    "70005c841a74963289a8489eb75cb0c66fc1d380d1e090e0003c70195a892f75a0448eb657a5c968badc79ceec88e0fc"
    "5800706e1a898332a09648b6a75cc9b76fdcc680ecd490fc002070193f892f5aa04474b6578bc968a1dc79b5ec88c8fc"
    "3400804a1a965f32ab7248be835ccf936fdfa280eeb090fc0000881a1a9d3232b04848c25c5cd26f6fe18080ef9090fc"
    "0000002b2b2b525252767676979797b6b6b6d2d2d2ececec0000002b2b2b525252767676979797b6b6b6d2d2d2ececec"
)


def ntsc_palette() -> NDArray[np.uint8]:
    """RGB uint8 [256, 3] of each index, on American consoles."""
    return _with_odd(_NTSC)


def pal_palette() -> NDArray[np.uint8]:
    """RGB uint8 [256, 3] of each index, on European consoles."""
    return _with_odd(_PAL)


def palette_of(ale: ALEInterface) -> NDArray[np.uint8]:
    """The palette of the game in `ale`, which plays on without action until its colours tell.

    Raises `LapaError` if they are of neither palette.
    """
    fitting = [ntsc_palette(), pal_palette()]
    for _ in range(MAX_FRAMES):
        screen, shown = ale.getScreen(), ale.getScreenRGB()
        fitting = [palette for palette in fitting if np.array_equal(palette[screen], shown)]
        if len(fitting) < 2:
            break
        ale.act(NOOP)  # still black, as it is before some titles
    if not fitting:
        raise LapaError("the emulator shows colours of neither the NTSC nor the PAL palette; install ale-py 0.12.")
    return fitting[0]


def _with_odd(even_colours: str) -> NDArray[np.uint8]:
    """All 256 colours: an odd index, which hardly a game shows, is the even one below it in grey."""
    even = np.frombuffer(bytes.fromhex(even_colours), dtype=np.uint8).reshape(128, 3)
    return np.stack([even, grey_levels(even)[:, None].repeat(3, axis=1)], axis=1).reshape(256, 3)
