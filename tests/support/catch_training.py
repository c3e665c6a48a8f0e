"""DQN on Catch in one fast loop: no Ray, no replay server, pictures of 44 × 44, every transition kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lapa_ray.actors.learner import Learner, LearnerConfig, LearnerResources
from lapa_ray.actors.policy import EpsilonGreedy
from lapa_ray.envs.environment import FrameStack
from lapa_ray.models.q_network import QNetwork, QNetworkConfig
from lapa_ray.replay.chunk import Batch
from tests.support.catch_env import NUM_ACTIONS, CatchEnv

SMALL = {"channels": (8, 16, 32), "impala_channels": (4, 8, 8), "hidden": 64, "frame_stack": 1}
NUM_GAMES, NUM_TRIALS = 16, 200
UPDATES_PER_ROUND = 4


class Game:
    """Catch over and over, and the stack that a policy sees."""

    def __init__(self, obs_shape: tuple[int, ...], frame_stack: int, seed: int) -> None:
        self._env, self._stack, self._seeds = (
            CatchEnv(obs_shape),
            FrameStack(frame_stack),
            iter(range(seed, 10**9, 997)),
        )
        self.generator = np.random.default_rng(seed)
        self.stack = self._stack.reset(self._env.reset(next(self._seeds)).obs)

    def step(self, action: int) -> tuple[np.ndarray, float, bool]:
        """The window of the transition, its reward, and whether it ended the game, after which the next one begins."""
        before, step = self.stack, self._env.step(action)
        first = self._env.reset(next(self._seeds)).obs if step.is_last else None
        self.stack = self._stack.push(step.obs) if first is None else self._stack.reset(first)
        return np.concatenate([before, step.obs[None]]), step.reward, step.terminated


class CatchTraining:
    """A learner and what it needs to learn Catch."""

    def __init__(
        self,
        network: QNetworkConfig,
        learner: LearnerConfig,
        precision: str = "float32",
        obs_shape: tuple[int, ...] = (44, 44),
        seed: int = 0,
    ) -> None:
        self._network, self._config, self._obs_shape = network, learner, obs_shape
        resources = LearnerResources(device="cpu", num_threads=1, precision=precision)
        self._learner = Learner(NUM_ACTIONS, network, learner, resources, seed, None, obs_shape)
        self._policy = EpsilonGreedy(QNetwork(NUM_ACTIONS, network, obs_shape), NUM_ACTIONS, explores=True)
        self._games = [self._game(number) for number in range(NUM_GAMES)]
        self._generator = np.random.default_rng(seed)
        self._rows: list[tuple[np.ndarray, int, float, bool]] = []

    def run(self, num_updates: int, epsilon: Callable[[float], float]) -> None:
        """Play and learn in turns; `epsilon` takes the share of updates made."""
        for round_start in range(0, num_updates, UPDATES_PER_ROUND):
            self._play(epsilon(round_start / num_updates))
            for _ in range(UPDATES_PER_ROUND):
                self._learner.update(self._batch())

    def returns(self, epsilon: float) -> np.ndarray:
        """Of fresh games, [NUM_TRIALS], by what is learnt, as a recorded agent plays."""
        policy = EpsilonGreedy(QNetwork(NUM_ACTIONS, self._network, self._obs_shape), NUM_ACTIONS)
        policy.load(self._learner.weights())
        games, total = [self._game(1000 + number) for number in range(NUM_TRIALS)], np.zeros(NUM_TRIALS)
        for _ in range(4):
            total += [reward for _, _, reward, _ in _stepped(games, policy, epsilon)]
        return total

    def _game(self, seed: int) -> Game:
        return Game(self._obs_shape, self._network.frame_stack, seed)

    def _play(self, epsilon: float) -> None:
        self._policy.load(self._learner.weights())
        for _ in range(4):
            self._rows += _stepped(self._games, self._policy, epsilon)

    def _batch(self) -> Batch:
        ids = self._generator.integers(len(self._rows), size=self._config.batch_size)
        windows, actions, rewards, terminated = zip(*(self._rows[number] for number in ids), strict=True)
        return Batch(
            windows=np.stack(windows),
            actions=np.array(actions),
            rewards=np.array(rewards, dtype=np.float32),
            discounts=np.where(terminated, 0, self._config.gamma).astype(np.float32),
            weights=np.ones(len(ids), dtype=np.float32),
            ids=ids,
        )


def _stepped(games: list[Game], policy: EpsilonGreedy, epsilon: float) -> list[tuple[np.ndarray, int, float, bool]]:
    """One step of every game: window, action, reward, terminated."""
    actions = policy.act(np.stack([game.stack for game in games]), epsilon, [game.generator for game in games])
    rows = []
    for game, action in zip(games, actions.tolist(), strict=True):
        window, reward, terminated = game.step(action)
        rows.append((window, action, reward, terminated))
    return rows
