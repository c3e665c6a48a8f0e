"""The planner in Ms. Pac-Man: ten seeded episodes' scores beside random play, mazes seen, decisions a second of a core.

The episodes are those of `record --agent planner --max_steps 2500`: sticky actions 0.25, cut after 2,500 agent steps
or three minutes of play, since the planner outlives any patience. As many processes as cores play, an episode each.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks._result import Cell, print_result
from lapa_ray.core.seeds import generator_for, seed_for
from lapa_ray.envs.atari_env import AtariEnv, AtariEnvConfig
from lapa_ray.envs.ms_pacman import MAZE
from lapa_ray.envs.planner import PLANNER, PlannerConfig, make_planner
from lapa_ray.evaluation.returns import play_random_episode

SEED = 0
NUM_EPISODES, MAX_STEPS = 10, 2500
QUICK_EPISODES, QUICK_STEPS = 2, 200


@dataclass(frozen=True)
class Played:
    """One episode of the planner, and the score of a random one of the same length at most."""

    number: int
    score: float
    random_score: float
    num_steps: int
    num_decisions: int
    seconds: float
    cpu_seconds: float
    lives: int
    mazes: tuple[int, ...]


def main() -> int:
    """Play, print a row an episode."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planner", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two episodes of 200 agent steps: seconds, not minutes")
    quick = parser.parse_args().quick
    count, max_steps = (QUICK_EPISODES, QUICK_STEPS) if quick else (NUM_EPISODES, MAX_STEPS)
    with multiprocessing.get_context("spawn").Pool(min(os.cpu_count() or 1, count)) as pool:
        episodes = [*pool.imap(partial(play, max_steps=max_steps), range(count), chunksize=1)]
    print_result("planner", table(episodes), figures(episodes))
    return 0


def play(number: int, max_steps: int) -> Played:
    """Play the planner's episode `number`, and a random one."""
    config = AtariEnvConfig()
    env, planner = AtariEnv(config), make_planner(config, PlannerConfig())
    start, cpu_start = time.monotonic(), time.process_time()
    step, score, num_steps, mazes = env.reset(seed_for(SEED, "episode", number)), 0.0, 0, set[int]()
    planner.reset(generator_for(SEED, PLANNER, number))
    while not step.is_last and num_steps < max_steps:
        step = env.step(planner.act(env.snapshot(), step.frames.ram[-1]))
        score, num_steps = score + step.reward, num_steps + 1
        mazes.update(step.frames.ram[:, MAZE].tolist())
    seconds, cpu_seconds = time.monotonic() - start, time.process_time() - cpu_start
    return Played(
        number,
        score,
        play_random_episode(env, SEED, number, max_steps),
        num_steps,
        planner.num_decisions,
        seconds,
        cpu_seconds,
        int(step.frames.lives[-1]),
        tuple(sorted(mazes)),
    )


def table(episodes: list[Played]) -> list[dict[str, Cell]]:
    """A row an episode."""
    return [
        {
            "episode": played.number,
            "score": played.score,
            "random play": played.random_score,
            "steps": played.num_steps,
            "lives left": played.lives,
            "mazes": " ".join(map(str, played.mazes)),
            "decisions/s": played.num_decisions / played.seconds,
            "agent steps/s": played.num_steps / played.seconds,
        }
        for played in episodes
    ]


def figures(episodes: list[Played]) -> dict[str, float]:
    """The figures of all."""
    seconds = sum(played.seconds for played in episodes)
    scores = [played.score for played in episodes]
    return {
        "score_median": float(np.median(scores)),
        "score_min": min(scores),
        "score_max": max(scores),
        "random_score_median": float(np.median([played.random_score for played in episodes])),
        "decisions_per_core_s": round(sum(played.num_decisions for played in episodes) / seconds, 2),
        "decisions_per_cpu_s": round(
            sum(played.num_decisions for played in episodes) / sum(played.cpu_seconds for played in episodes), 2
        ),
        "agent_steps_per_core_s": round(sum(played.num_steps for played in episodes) / seconds, 2),
        "mazes_seen": len({maze for played in episodes for maze in played.mazes}),
        "max_steps": max(played.num_steps for played in episodes),
    }


if __name__ == "__main__":
    sys.exit(main())
