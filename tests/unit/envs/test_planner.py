"""The planner in a toy maze without chance, where the best way is known."""

import numpy as np
import pytest

from lapa_ray.core.errors import LapaError
from lapa_ray.envs.mazes import maze_of
from lapa_ray.envs.ms_pacman import PHASE
from lapa_ray.envs.planner import Planner, PlannerConfig, check_plannable
from tests.support.toy_maze import ACTIONS, ToyMaze, cell

UP, RIGHT, LEFT, DOWN = (ACTIONS.index(name) for name in ("UP", "RIGHT", "LEFT", "DOWN"))
CROSSING = cell(2, 3)  # of maze 0: ways lead left and right along row 2, up to row 0 and down to row 3


def planner(toy: ToyMaze, **config) -> Planner:
    return Planner(toy, ACTIONS, PlannerConfig(**config))


@pytest.mark.parametrize(
    ("dot", "action"),
    [(cell(2, 1), LEFT), (cell(2, 6), RIGHT), (cell(0, 3), UP), (cell(4, 4), DOWN)],
)
def test_it_goes_where_the_points_are(dot, action):
    toy = ToyMaze({dot}, points={dot: 100})
    assert planner(toy).act(*toy.at(CROSSING, heading=1)) == action


def test_of_two_ways_to_a_dot_it_takes_the_one_that_leaves_a_second_way_out():
    """Along row 2 a dot lies three cells to either side; beyond the left one is death on one of the two ways on."""
    dots = {cell(2, 1), cell(2, 5)}
    toy = ToyMaze(dots, deadly={cell(3, 1)})
    assert planner(toy, horizon_steps=6).act(*toy.at(CROSSING, heading=3)) == RIGHT


@pytest.mark.parametrize("budget", [1, 10, 60])
def test_it_shuns_death_though_points_lie_there(budget):
    toy = ToyMaze({cell(2, 1), cell(2, 2), cell(0, 3)}, deadly={cell(2, 1)}, points={cell(2, 2): 200})
    assert planner(toy, budget_steps=budget).act(*toy.at(CROSSING, heading=1)) != LEFT


def test_without_points_at_hand_it_goes_to_the_nearest_dot_along_the_corridors():
    toy = ToyMaze({cell(13, 0)})
    agent, (state, ram) = planner(toy, horizon_steps=3, budget_steps=20), toy.at(CROSSING, heading=1)
    way = []
    while ram[119] == 0 and len(way) < 60:
        action = agent.act(state, ram)
        toy.restore(state)
        toy.step(action)
        state, ram = toy.save(), toy.ram.copy()
        way.append(action)
    assert ram[119] == 1
    assert len(way) == maze_of(0).distances(np.array([cell(13, 0)]))[CROSSING]


def test_it_goes_on_as_before_while_the_game_stands_still_and_does_not_plan():
    toy = ToyMaze({cell(2, 1)})
    agent, (state, ram) = planner(toy), toy.at(CROSSING)
    assert agent.act(state, ram) == LEFT
    spent = toy.num_steps
    still = ram.copy()
    still[PHASE] = 40
    assert agent.act(state, still) == LEFT
    assert (toy.num_steps, agent.num_decisions) == (spent, 1)


def test_a_decision_holds_for_its_steps():
    toy = ToyMaze({cell(2, 1)})
    agent, now = planner(toy, decision_steps=3), toy.at(CROSSING)
    for _ in range(6):
        agent.act(*now)
    assert agent.num_decisions == 2


def test_the_budget_bounds_what_is_simulated():
    spent = []
    for budget in (5, 200):
        toy = ToyMaze({cell(13, 0)})
        planner(toy, budget_steps=budget).act(*toy.at(CROSSING))
        spent.append(toy.num_steps)
    assert spent[0] < 50 < 200 <= spent[1] < 240


def test_a_reset_hands_all_chance_to_the_simulation_and_forgets():
    toy = ToyMaze({cell(2, 1)})
    agent, generator = planner(toy), np.random.default_rng(1)
    agent.act(*toy.at(CROSSING))
    agent.reset(generator)
    assert toy.generators[-1] is generator
    state, ram = toy.at(CROSSING)
    ram[PHASE] = 20
    assert agent.act(state, ram) == 0


def test_another_game_is_refused():
    check_plannable("MsPacman")
    with pytest.raises(LapaError, match=r"^--env.game Breakout: the planner plays MsPacman alone"):
        check_plannable("Breakout")
