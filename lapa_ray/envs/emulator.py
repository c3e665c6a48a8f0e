"""ALEInterface by the names of its games: a game's name in, a loaded emulator out. Knows no agent steps."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache

from ale_py import ALEInterface, ALEState, LoggerMode, roms

from lapa_ray.core.errors import LapaError


@dataclass(frozen=True, slots=True)
class EmulatorState:
    """Where a game is: any emulator of that game can go on from here.

    state: the console, without chance of its own; executed: the index of the action that ran last.
    """

    state: ALEState
    executed: int


def load_emulator(game: str, frames_per_act: int = 1) -> ALEInterface:
    """An emulator with the ROM of `game` in it, without sticky actions of its own (about 0.1 s).

    Raises `LapaError` for a game that the ALE does not have, or has for two players only.
    """
    ALEInterface.setLoggerMode(LoggerMode.Error)  # at its source: the banner comes from C++
    path = _rom_path(game)
    ale = ALEInterface()
    ale.setInt("random_seed", 0)  # decides the noise in memory at power-up alone
    ale.setFloat("repeat_action_probability", 0.0)
    ale.setInt("frame_skip", frames_per_act)
    ale.loadROM(path)
    return ale


@cache
def rom_ids() -> dict[str, str]:
    """Name of each game, as in ALE/…-v5, to the id of its ROM."""
    return {rom.title().replace("_", ""): rom for rom in roms.get_all_rom_ids()}


def _rom_path(game: str) -> str:
    if game not in rom_ids():
        raise LapaError(f"--env.game {game}: the ALE has no such game; {_way_out(game)}")
    path = str(roms.get_rom_path(rom_ids()[game]))
    if ALEInterface.isSupportedROM(path) is None:  # loadROM would end the process
        raise LapaError(f"--env.game {game}: is for two players; choose one for a single player, such as MsPacman.")
    return path


def _way_out(game: str) -> str:
    by_lower = {name.lower(): name for name in rom_ids()}
    wanted = game.lower().replace("_", "").replace(" ", "")
    near = [by_lower[name] for name in difflib.get_close_matches(wanted, by_lower, n=3, cutoff=0.6)]
    return f"did you mean {' or '.join(near)}?" if near else "write a name as in ALE/MsPacman-v5: MsPacman."
