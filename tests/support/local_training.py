"""The plain classes behind the actors, joined in this process: what Ray does not change can be tested without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from lapa_ray.actors.learner import Learner, LearnerConfig, LearnerResources
from lapa_ray.actors.replay_server import ReplayServer
from lapa_ray.actors.rollout_worker import RolloutOptions, RolloutWorker
from lapa_ray.envs.environment import Environment
from lapa_ray.models.q_network import QNetworkConfig
from lapa_ray.replay.buffer import ReplayConfig
from lapa_ray.replay.chunk import Batch, Chunk

SMALL = QNetworkConfig(channels=(8, 16, 16), hidden=32, frame_stack=2)
ONE_THREAD = LearnerResources(device="cpu", num_threads=1)


class LocalSource:
    """Batches straight from a replay server in this process."""

    def __init__(self, server: ReplayServer) -> None:
        self._server = server

    def batches(self, num_updates_done: int, count: int) -> Iterator[Batch]:
        for index in range(count):
            yield self._server.sample(num_updates_done + index)

    def give_td_errors(self, ids: np.ndarray, td_errors: np.ndarray) -> None:
        self._server.update_priorities(ids, td_errors)


class LocalTraining:
    """Worker, server and learner in turns, as the limiter allows."""

    def __init__(
        self,
        make_env: Callable[[], Environment],
        *,
        num_steps: int,
        use_per: bool,
        replay: ReplayConfig,
        learner: LearnerConfig,
        network: QNetworkConfig = SMALL,
        num_envs: int = 4,
        rollout_steps: int = 16,
        seed: int = 0,
        options: RolloutOptions | None = None,
    ) -> None:
        self.num_steps, self._rollout_steps, self._num_envs = num_steps, rollout_steps, num_envs
        self.server = ReplayServer(
            replay,
            frame_stack=network.frame_stack,
            use_per=use_per,
            batch_size=learner.batch_size,
            num_updates=int(replay.samples_per_insert * (num_steps - replay.min_size)) // learner.batch_size,
            seed=seed,
            max_waiting_steps=num_envs * rollout_steps,
            gamma=learner.gamma,
        )
        actions = make_env().num_actions
        self.learner = Learner(actions, network, learner, ONE_THREAD, seed, LocalSource(self.server))
        self._make_worker = partial(
            RolloutWorker, make_env, network=network, seed=seed, options=options or RolloutOptions()
        )
        self.worker = self._make_worker(blocks=list(range(num_envs)), send=self._insert)

    def _insert(self, chunks: list[Chunk]) -> None:
        self.server.insert(chunks)

    def run(self, epsilon: Callable[[float], float]) -> None:
        """Train; `epsilon` takes the share of steps done."""
        while (done := self.server.status().num_inserts) < self.num_steps:
            self.worker.play(self.learner.weights(), epsilon(done / self.num_steps), self._rollout_steps)
            if allowed := self.server.status().allowed_batches:
                self.learner.train(allowed)

    def mean_return(self, epsilon: float, num_steps: int = 200) -> float:
        """Mean return of fresh episodes with the weights learnt so far."""
        player = self._make_worker(blocks=list(range(1000, 1000 + self._num_envs)), send=lambda chunks: None)
        episodes = player.play(self.learner.weights(), epsilon, num_steps).episodes
        return float(np.mean([episode_return for episode_return, _ in episodes]))
