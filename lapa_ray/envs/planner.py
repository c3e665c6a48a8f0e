"""The planner: plays Ms. Pac-Man by trying out what may come. Emulator state and RAM in, an action out; nothing learnt.

At each decision it lets an emulator run along the corridors that lead away from the player, from junction to junction,
those soonest reached first, until its budget is spent. A way is worth what it earned and what its end promises. It
knows the present, as a player does; the sticky draws to come it does not know, and simulates its own.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from lapa_ray.core.config import Config, Fraction
from lapa_ray.core.errors import LapaError
from lapa_ray.envs.atari_env import AtariEnvConfig
from lapa_ray.envs.emulator import EmulatorState
from lapa_ray.envs.mazes import NUM_MAZES, Maze, cell_of, cell_positions, cells_to_go, maze_of
from lapa_ray.envs.ms_pacman import DYING, EATEN, EATING_GHOST, HEADING, MAZE, PHASE, PLAYING, X, Y, targets_of
from lapa_ray.envs.simulator import Simulator

PLANNER = "planner"
"""What data and figures call it: it is no learned agent."""
PLANNED_GAME = "MsPacman"
HEADINGS = ("UP", "RIGHT", "DOWN", "LEFT")
NOOP = 0
PASSED_PIXELS = 3
"""This far beyond the middle of a crossing it is too late to turn into a side way."""
MOST_STEPS_AT_ONCE = 40
"""Agent steps after which a way ends in the middle of a corridor, from where it may be looked on; few are so long."""


class PlannerConfig(Config):
    """How far and how carefully the planner looks ahead."""

    budget_steps: PositiveInt = 60
    """Agent steps to simulate for a decision; ways under way are followed to their next junction."""
    horizon_steps: PositiveInt = 60
    """Agent steps that a way is followed at most."""
    decision_steps: PositiveInt = 1
    """Agent steps that a decision holds for."""
    discount: float = Field(0.99, gt=0, le=1)
    """What a point is worth that comes an agent step later."""
    death_penalty: float = Field(2000, ge=0)
    """Points that a life is worth."""
    second_best_weight: Fraction = 0.05
    """Weight of the second best way out of a junction, beside the best: a place with two ways out is safer."""
    dot_pull: float = Field(5, ge=0)
    """Points for each cell by which a way without a dot ends nearer to one."""
    impatience_steps: PositiveInt = 100
    """Agent steps without a dot eaten after which the pull is doubled; it grows on."""
    clear_bonus: float = Field(300, ge=0)
    """Points that a cleared maze is worth beside those of its last dot."""


class Simulation(Protocol):
    """Where ways are tried out: `Simulator`, or a toy."""

    ram: NDArray[np.uint8]
    num_steps: int

    def seed(self, generator: np.random.Generator) -> None:
        """Take all chance from `generator`."""

    def restore(self, state: EmulatorState) -> None:
        """Go on from `state`."""

    def save(self) -> EmulatorState:
        """Where it is."""

    def step(self, action: int) -> int:
        """One agent step; the raw reward. `ram` is then the memory after it."""


class Planner:
    """Decides on actions; an episode's are decided by its states and the generator it was reset with."""

    def __init__(self, simulation: Simulation, action_meanings: Sequence[str], config: PlannerConfig) -> None:
        """`action_meanings` are the game's, an action is an index into them."""
        self._simulation, self._config = simulation, config
        self._actions = tuple(action_meanings.index(name) for name in HEADINGS)
        self.num_decisions = 0
        """Decisions taken since it was made; steps without one, such as in the intro, do not count."""
        self.reset(np.random.default_rng(0))

    def reset(self, generator: np.random.Generator) -> None:
        """Begin an episode."""
        self._simulation.seed(generator)
        self._action, self._held_steps = NOOP, 0
        self._eaten, self._hungry_steps = -1, 0

    def act(self, state: EmulatorState, ram: NDArray[np.uint8]) -> int:
        """The action for the game in `state`, whose memory is `ram` uint8 [128]."""
        if ram[PHASE] != PLAYING:
            return self._action
        if self._held_steps > 0:
            self._held_steps -= 1
            return self._action
        self._held_steps = self._config.decision_steps - 1
        self.num_decisions += 1
        heading = self._decide(state, ram)
        self._action = self._action if heading is None else self._actions[heading]
        return self._action

    def _decide(self, state: EmulatorState, ram: NDArray[np.uint8]) -> int | None:
        eaten = int(ram[EATEN])
        self._hungry_steps = self._hungry_steps + self._config.decision_steps if eaten == self._eaten else 0
        self._eaten = eaten
        pull = self._config.dot_pull * (1 + self._hungry_steps / self._config.impatience_steps)
        return _Search(self._simulation, self._actions, self._config, ram, pull).best_heading(state, ram)


@dataclass(slots=True)
class _Way:
    """A way from the player to a junction, or to where looking on ends (state None)."""

    cell: int
    heading: int
    num_steps: int
    earned: float
    worth: float
    state: EmulatorState | None
    onward: list[_Way] = field(default_factory=list)


class _Search:
    """One decision: the ways that were tried, as a tree."""

    def __init__(
        self,
        simulation: Simulation,
        actions: tuple[int, ...],
        config: PlannerConfig,
        ram: NDArray[np.uint8],
        pull: float,
    ) -> None:
        self._simulation, self._actions, self._config = simulation, actions, config
        self._maze = maze_of(ram[MAZE] % NUM_MAZES)
        self._cells = _cells()
        self._pull, self._eaten = pull, int(ram[EATEN])
        self._cells_to_go = cells_to_go(int(ram[MAZE]) % NUM_MAZES, targets_of(ram).tobytes())
        self._discounts = _discounts(config.discount, config.horizon_steps + MOST_STEPS_AT_ONCE + 1)

    def best_heading(self, state: EmulatorState, ram: NDArray[np.uint8]) -> int | None:
        """The heading of the best way; None where there is none."""
        cell = self._cells[ram[X["player"]]][ram[Y["player"]]]
        heading = int(ram[HEADING["player"]] & 3)
        start = _Way(cell, heading, 0, 0.0, 0.0, state)
        first = {choice: self._follow(start, choice) for choice in _choices(self._maze, start, ram)}
        self._look_on([*first.values()])
        worth = {choice: self._worth(way) + (choice == heading) * 1e-3 for choice, way in first.items()}
        return max(worth, key=worth.__getitem__, default=None)

    def _look_on(self, ways: list[_Way]) -> None:
        """Follow the ways on, that of the fewest steps first, until the budget is spent or none leads on."""
        number = itertools.count()
        ahead = [(way.num_steps, next(number), way) for way in ways if way.state is not None]
        heapq.heapify(ahead)
        end = self._simulation.num_steps + self._config.budget_steps
        while ahead and self._simulation.num_steps < end:
            way = heapq.heappop(ahead)[2]
            way.onward = [self._follow(way, heading) for heading in self._onward(way.cell, way.heading)]
            for longer in way.onward:
                if longer.state is not None:
                    heapq.heappush(ahead, (longer.num_steps, next(number), longer))

    def _follow(self, way: _Way, heading: int) -> _Way:
        """Simulate `way` on along `heading`, round corners, to the next junction or to what ends it."""
        assert way.state is not None
        simulation, discounts = self._simulation, self._discounts
        simulation.restore(way.state)
        cell, num_steps, earned = way.cell, way.num_steps, way.earned
        for _ in range(MOST_STEPS_AT_ONCE):
            reward = simulation.step(self._actions[heading])
            ram = simulation.ram
            earned += discounts[num_steps] * reward
            if ram[PHASE] != PLAYING:
                if ram[PHASE] in EATING_GHOST:  # the game stands still, so looking on costs no time
                    continue
                lost = self._config.death_penalty if ram[PHASE] in DYING else -self._config.clear_bonus
                return _Way(cell, heading, num_steps, earned, earned - discounts[num_steps] * lost, None)
            num_steps += 1
            reached = self._cells[ram[X["player"]]][ram[Y["player"]]]
            if reached != cell:
                cell, heading = reached, int(ram[HEADING["player"]] & 3)
                ways = self._onward(cell, heading)
                if len(ways) != 1:
                    break
                heading = ways[0]
            elif num_steps >= self._config.horizon_steps:
                break
        to_go = 0 if ram[EATEN] != self._eaten else self._cells_to_go[cell]
        worth = earned - discounts[num_steps] * self._pull * to_go
        ends = num_steps >= self._config.horizon_steps
        return _Way(cell, heading, num_steps, earned, worth, None if ends else simulation.save())

    def _onward(self, cell: int, heading: int) -> list[int]:
        return [way for way in self._maze.headings[cell] if way != _opposite(heading)]

    def _worth(self, way: _Way) -> float:
        if not way.onward:
            return way.worth
        best, *others = sorted(map(self._worth, way.onward), reverse=True)
        if not others:
            return best
        weight = self._config.second_best_weight
        return (1 - weight) * best + weight * others[0]


def make_planner(env: AtariEnvConfig, config: PlannerConfig) -> Planner:
    """A planner for the game of `env`, with emulators of its own. Raises `LapaError` if that is not Ms. Pac-Man."""
    check_plannable(env.game)
    simulator = Simulator(env)
    return Planner(simulator, simulator.action_meanings, config)


def check_plannable(game: str) -> None:
    """Raise `LapaError` for a game that the planner does not know."""
    if game != PLANNED_GAME:
        raise LapaError(f"--env.game {game}: the planner plays {PLANNED_GAME} alone; choose that, or another player.")


def _choices(maze: Maze, start: _Way, ram: NDArray[np.uint8]) -> Iterator[int]:
    """Yield the headings that the player may take now: ways out of its cell that it has not passed, and back."""
    back = _opposite(start.heading)
    x, y = _centres()
    right = int(ram[X["player"]]) - x[start.cell]
    down = int(ram[Y["player"]]) - y[start.cell]
    passed = (-down, right, down, -right)[start.heading]
    for heading in range(len(HEADINGS)):
        leads_on = heading in maze.headings[start.cell] and (
            passed <= PASSED_PIXELS or heading in (start.heading, back)
        )
        if leads_on or (heading == back and abs(passed) > PASSED_PIXELS):
            yield heading


def _opposite(heading: int) -> int:
    return heading ^ 2


@cache
def _cells() -> list[list[int]]:
    """The nearest cell by x and y of RAM."""
    cells: list[list[int]] = cell_of(*np.meshgrid(np.arange(256), np.arange(256), indexing="ij")).tolist()
    return cells


@cache
def _centres() -> tuple[list[int], list[int]]:
    x, y = cell_positions()
    return x.tolist(), y.tolist()


@cache
def _discounts(discount: float, count: int) -> list[float]:
    return [discount**step for step in range(count)]
