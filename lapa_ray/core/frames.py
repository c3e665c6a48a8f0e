"""What passes from an environment to the frame dataset: the game's description and the emulator frames of one step.

Environments make these, the dataset writer stores them, and neither knows the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RAM_BYTES = 128


@dataclass(frozen=True)
class GameInfo:
    """What a shard needs to explain itself.

    `palette` is uint8 [256, 3] RGB, and index i of a screen means palette[i]; where `channels` is 3, screens are RGB
    themselves and the palette is empty, [0, 3], so that a look-up by mistake fails. `unknown` names columns and fields
    that hold no knowledge, as those of imports may: null, or 0 or empty where there is no null.
    """

    game: str
    palette: NDArray[np.uint8]
    action_meanings: tuple[str, ...]
    height: int
    width: int
    frame_skip: int
    sticky_probability: float
    emulator: str
    channels: int = 1
    unknown: tuple[str, ...] = ()

    @property
    def screen_shape(self) -> tuple[int, ...]:
        """(height, width) of palette indices, (height, width, 3) of RGB."""
        return (self.height, self.width) if self.channels == 1 else (self.height, self.width, self.channels)

    @property
    def screen_bytes(self) -> int:
        """Bytes of a screen."""
        return self.height * self.width * self.channels


@dataclass(frozen=True, slots=True)
class StepFrames:
    """The emulator frames of one step, oldest first; n = frame_skip, fewer where the episode ends inside the step.

    screens uint8 [n, height, width] palette indices, or RGB [n, height, width, 3]; ram uint8 [n, 128];
    executed_actions int8 [n], indices into `action_meanings`; rewards float32 [n], raw score of each frame; lives int8
    [n].
    """

    screens: NDArray[np.uint8]
    ram: NDArray[np.uint8]
    executed_actions: NDArray[np.int8]
    rewards: NDArray[np.float32]
    lives: NDArray[np.int8]


NO_ACTION = -1
"""The action of a reset frame, which no action led to."""
