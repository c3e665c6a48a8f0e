"""A recording: episode ids in, whole episodes on disk out, by players that are replaced when they die."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import ray

from lapa_ray.actors.cluster import require_resources, wait_for_actors
from lapa_ray.actors.episode_player import PlayedEpisode
from lapa_ray.actors.faults import DEATHS, MAX_DEATHS_IN_A_ROW
from lapa_ray.core.errors import LapaError
from lapa_ray.core.progress import Progress
from lapa_ray.core.stop import StopRequest


class Recording:
    """Players that record episodes; whichever is free gets the next one. One that dies is replaced.

    With a player die the episodes of the shard that it had open; the caller sees which are missing and records them.
    """

    def __init__(
        self,
        make_player: Callable[[str], Any],
        is_planned: Callable[[int], bool],
        num_players: int,
        cpus_per_player: float,
    ) -> None:
        """`make_player` starts an `EpisodePlayerActor` of a name; `is_planned` tells whose an episode is."""
        self._make_player, self._is_planned = make_player, is_planned
        self._most_players, self._cpus_per_player = num_players, cpus_per_player
        self._num_players = 0
        self._idle: list[Any] = []
        self._playing: dict[Any, tuple[Any, int]] = {}
        self._deaths_in_a_row = 0

    def run(self, episode_ids: list[int], progress: Progress, stop: StopRequest) -> None:
        """Record `episode_ids`; on a stop request those under way are played to their end, but a planner's are left."""
        num_players = min(self._most_players, len(episode_ids))
        require_resources(cpus=num_players * self._cpus_per_player)
        self._idle = [self._new_player() for _ in range(num_players)]
        try:
            wait_for_actors(self._idle, lambda: bool(stop))
            self._play_all(episode_ids, progress, stop)
            self._close()
        finally:
            for player in [*self._idle, *(player for player, _ in self._playing.values())]:
                ray.kill(player)

    def _play_all(self, episode_ids: list[int], progress: Progress, stop: StopRequest) -> None:
        waiting = list(reversed(episode_ids))
        while self._playing or (waiting and not stop):
            while self._idle and waiting and not stop:
                self._play(self._idle.pop(), waiting.pop())
            ready, _ = ray.wait(list(self._playing), num_returns=1, timeout=1.0)
            progress.advance(0)
            for reference in ready:
                played = self._take(reference, stop)
                if isinstance(played, int):
                    waiting.append(played)
                elif played is not None:
                    progress.advance(note=f"last return {played.episode_return:,.0f}")

    def _play(self, player: Any, episode_id: int) -> None:
        self._playing[player.play.remote(episode_id, self._is_planned(episode_id))] = (player, episode_id)

    def _take(self, reference: Any, stop: StopRequest) -> PlayedEpisode | int | None:
        """A finished episode; None for one that is played on or left; the id of one whose player died."""
        player, episode_id = self._playing.pop(reference)
        try:
            played: PlayedEpisode | None = ray.get(reference)
        except DEATHS as error:
            self._replace(player, error)
            return episode_id
        self._deaths_in_a_row = 0
        if played is None and not (stop and self._is_planned(episode_id)):
            self._play(player, episode_id)
        else:
            self._idle.append(player)
        return played

    def _replace(self, player: Any, error: Exception) -> None:
        if isinstance(error, ray.exceptions.RayTaskError) or getattr(error, "actor_init_failed", False):
            raise error
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row >= MAX_DEATHS_IN_A_ROW:
            raise LapaError(
                f"players died {self._deaths_in_a_row} times in a row; give them more memory or ask for fewer "
                "(--resources.num_workers), then add --resume."
            ) from error
        print("A player died; another one takes its place and plays its episodes again.", file=sys.stderr, flush=True)
        ray.kill(player)
        self._idle.append(self._new_player())

    def _close(self) -> None:
        """Put all shards in place; those of a player that dies meanwhile are missing, and seen to be."""
        for closing in [player.close.remote() for player in self._idle]:
            try:
                ray.get(closing)
            except DEATHS as error:
                if isinstance(error, ray.exceptions.RayTaskError):
                    raise

    def _new_player(self) -> Any:
        self._num_players += 1
        return self._make_player(f"player-{self._num_players - 1:03d}")
