"""Who plays in the collection benchmark: each takes agent steps by random actions and gives stacks of 8 observations.

All of them: MsPacman, 4 frames a step, sticky actions 0.25, 84×84 grey, maximum of the last two frames, one thread.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import ale_py
import cv2
import gymnasium
import numpy as np
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation
from numpy.typing import NDArray

from lapa_ray.core.frames import NO_ACTION
from lapa_ray.core.pictures import grey_levels, shrink
from lapa_ray.dataset.writer import FrameWriter
from lapa_ray.envs.atari_env import AtariEnv, AtariEnvConfig
from lapa_ray.envs.environment import FrameStack, Step
from lapa_ray.envs.palette import ntsc_palette

STACK, SKIP, STICKY, SIZE = 8, 4, 0.25, 84
MAX_FRAMES = 108_000
NOOP = 0


class Player(Protocol):
    """Plays one game after another."""

    def play(self, num_steps: int) -> None:
        """Take agent steps."""

    def close(self) -> None:
        """Take away what it wrote."""


class _Random:
    """Random actions, and nothing to take away."""

    def __init__(self) -> None:
        self._generator = np.random.default_rng(0)

    def actions(self, num_actions: int, count: int) -> NDArray[np.int64]:
        """int64 [count]."""
        return self._generator.integers(num_actions, size=count)

    def close(self) -> None:
        """Nothing was written."""


class OurPlayer(_Random):
    """`AtariEnv` and `FrameStack`, as a rollout worker has them; frames that nobody records are not kept."""

    def __init__(self, *, keep_frames: bool = False) -> None:
        super().__init__()
        self._env, self._stack = AtariEnv(AtariEnvConfig(), keep_frames=keep_frames), FrameStack(STACK)
        self._num_episodes = 0
        self._begin()

    def play(self, num_steps: int) -> None:
        """Take agent steps."""
        for action in self.actions(self._env.num_actions, num_steps).tolist():
            step = self._env.step(action)
            self._record(action, step)
            self._stack.push(step.obs)
            if step.is_last:
                self._begin()

    def _begin(self) -> None:
        step = self._env.reset(self._num_episodes)
        self._num_episodes += 1
        self._record(NO_ACTION, step)
        self._stack.reset(step.obs)

    def _record(self, action: int, step: Step) -> None:
        """Nothing is."""


class OurRecorder(OurPlayer):
    """The same, writing every frame, the console's memory and the executed actions to Parquet as training does."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="lapa-bench-")
        info = AtariEnv(AtariEnvConfig()).info
        self._writer = FrameWriter(Path(self._folder.name), info, "bench", "random")
        super().__init__(keep_frames=True)

    def close(self) -> None:
        """Take the shards away."""
        self._writer.abort()
        self._folder.cleanup()

    def _begin(self) -> None:
        self._writer.end_episode()
        self._writer.begin_episode(self._num_episodes)
        super()._begin()

    def _record(self, action: int, step: Step) -> None:
        self._writer.append(action, step.frames, step.terminated, step.truncated)


class GymnasiumPlayer(_Random):
    """Gymnasium's wrappers."""

    def __init__(self) -> None:
        super().__init__()
        gymnasium.register_envs(ale_py)
        game = gymnasium.make(
            "ALE/MsPacman-v5", frameskip=1, repeat_action_probability=STICKY, disable_env_checker=True
        )
        preprocessed = AtariPreprocessing(game, noop_max=0, frame_skip=SKIP, screen_size=SIZE)
        self._env = FrameStackObservation(preprocessed, STACK)
        self._env.reset(seed=0)

    def play(self, num_steps: int) -> None:
        """Take agent steps."""
        for action in self.actions(9, num_steps):
            _, _, terminated, truncated, _ = self._env.step(action)
            if terminated or truncated:
                self._env.reset()


class VectorPlayer(_Random):
    """A vector environment of one, which begins its next game by itself in the step after the last one."""

    def __init__(self, env: Any) -> None:
        super().__init__()
        self._env = env
        env.reset()

    def play(self, num_steps: int) -> None:
        """Take agent steps."""
        actions = self.actions(9, num_steps).astype(np.int32)
        for index in range(num_steps):
            self._env.step(actions[index : index + 1])


class ActLoop(_Random):
    """The least that gives an observation: four `act`, grey look-up of the last two frames, maximum, exact resize.

    No stack, no rewards, nothing kept; sticky actions are the emulator's own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ale = ale_py.ALEInterface()
        self._ale.setFloat("repeat_action_probability", STICKY)
        self._ale.setInt("frame_skip", 1)
        self._ale.loadROM(ale_py.roms.get_rom_path("ms_pacman"))
        self._actions = [action.value for action in self._ale.getMinimalActionSet()]
        self._screens = np.empty((2, *self._ale.getScreenDims()), dtype=np.uint8)
        self._table = grey_levels(ntsc_palette())

    def play(self, num_steps: int) -> None:
        """Take agent steps."""
        for action in self.actions(len(self._actions), num_steps).tolist():
            self._four_frames(self._actions[action])
            self._observe()

    def _four_frames(self, action: int) -> None:
        ale, screens = self._ale, self._screens
        for frame in range(SKIP):
            ale.act(action)
            if frame >= SKIP - 2:
                ale.getScreen(screens[frame - SKIP + 2])
            if ale.game_over():
                ale.reset_game()

    def _observe(self) -> NDArray[np.uint8]:
        grey = cv2.LUT(self._screens.reshape(-1, self._screens.shape[2]), self._table).reshape(self._screens.shape)
        return shrink(cv2.max(grey[0], grey[1]))


class BareActs(ActLoop):
    """Four `act` alone."""

    def _four_frames(self, action: int) -> None:
        ale = self._ale
        for _ in range(SKIP):
            ale.act(action)
            if ale.game_over():
                ale.reset_game()

    def _observe(self) -> NDArray[np.uint8]:
        return self._screens[0]


def atari_vector_env() -> Player:
    """ale-py's, in C++."""
    from ale_py.vector_env import AtariVectorEnv

    return VectorPlayer(
        AtariVectorEnv(
            "ms_pacman", 1, num_threads=1, max_num_frames_per_episode=MAX_FRAMES, repeat_action_probability=STICKY,
            img_height=SIZE, img_width=SIZE, stack_num=STACK, frameskip=SKIP, noop_max=0, reward_clipping=False,
            use_fire_reset=False,
        )
    )  # fmt: skip


def envpool_env() -> Player:
    """EnvPool's, in C++."""
    import envpool

    return VectorPlayer(
        envpool.make_gymnasium(
            "MsPacman-v5", num_envs=1, num_threads=1, stack_num=STACK, frame_skip=SKIP, img_height=SIZE,
            img_width=SIZE, repeat_action_probability=STICKY, noop_max=1, reward_clip=False, episodic_life=False,
            use_fire_reset=False, max_episode_steps=MAX_FRAMES // SKIP,
        )
    )  # fmt: skip


OURS, OURS_RECORDING, GYMNASIUM = "ours", "ours, recording", "Gymnasium's wrappers"
ACT_LOOP, BARE = "loop of four act()", "four act() alone"
PEERS: dict[str, tuple[Callable[[], Player], str]] = {
    GYMNASIUM: (GymnasiumPlayer, "gymnasium"),
    "AtariVectorEnv": (atari_vector_env, "ale-py"),
    "EnvPool": (envpool_env, "envpool"),
}
"""Name → how to make one, and the package."""
PLAYERS: dict[str, Callable[[], Player]] = {
    OURS: OurPlayer,
    OURS_RECORDING: OurRecorder,
    ACT_LOOP: ActLoop,
    BARE: BareActs,
    **{name: make for name, (make, _) in PEERS.items()},
}


def package_of(name: str) -> str:
    """Package and version of a player."""
    package = PEERS[name][1] if name in PEERS else "lapa-ray" if name.startswith("ours") else "ale-py"
    return f"{package} {version(package)}"
