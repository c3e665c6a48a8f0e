"""How often each pair is drawn, on made play whose kinds of pairs are known; and that it is drawn as often as that."""

from functools import partial

import numpy as np
import pytest

from lapa_ray.core.errors import LapaError
from lapa_ray.dataset.pairs import PairStore
from lapa_ray.dataset.stream import Draw
from lapa_ray.envs.ms_pacman import EATEN, MAZE, PHASE
from lapa_ray.stages.fit_task import Turn
from lapa_ray.stages.pair_sources import BalancedPairs, training_pairs
from lapa_ray.stages.pair_weights import pair_chances
from tests.support.made_ram import made_ram
from tests.support.recordings import write_play

HEIGHT, WIDTH = 4, 160


def screens(changed: list[int]) -> np.ndarray:
    """Pictures of which the next differs in so many pixels, each time others of level 1."""
    pictures = np.zeros((len(changed) + 1, HEIGHT * WIDTH), np.uint8)
    for step, count in enumerate(changed):
        pictures[step + 1] = pictures[step]
        pictures[step + 1, :count] ^= 1
    return pictures.reshape(-1, HEIGHT, WIDTH)


def made_play(folder, **how):
    """Ten pairs in two episodes: of 0 changed pixels five, of 1 three, of 300 two; two with dots, two of maze 1."""
    one, other = made_ram(7), made_ram(5)
    one[:, EATEN] = [0, 1, 1, 1, 1, 1, 1]
    other[:, EATEN] = [0, 0, 0, 7, 0]  # a pill's worth at once, and a new level
    other[2:4, MAZE] = 1
    one[:3, PHASE] = other[3:, PHASE] = 0  # the first two pairs, and the last
    pictures = screens([0, 0, 0, 1, 1, 300]), screens([0, 0, 1, 300])
    return write_play(folder, [(one, pictures[0]), (other, pictures[1])], **how)


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    return made_play(tmp_path_factory.mktemp("play") / "frames")


def chances(dataset, balance: str, *, frozen: bool = False, episode_ids=(0, 1)) -> np.ndarray:
    pictures = np.concatenate([dataset.composites(episode) for episode in episode_ids])
    return pair_chances(dataset, episode_ids, pictures, balance, leave_out_frozen=frozen)


@pytest.mark.parametrize(
    ("balance", "kinds"),
    [
        ("none", [0] * 10),
        ("motion", [0, 0, 0, 1, 1, 8, 0, 0, 1, 8]),
        ("dots", [1, 0, 0, 0, 0, 0, 0, 0, 1, 0]),
        ("mazes", [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]),
    ],
)
@pytest.mark.parametrize("frozen", [False, True])
def test_kinds_are_equally_likely_and_so_are_the_pairs_of_a_kind(play, balance, kinds, frozen):
    kinds, kept = np.array(kinds), np.ones(10, bool)
    if frozen:
        kept[[0, 1, 9]] = False
    found = chances(play, balance, frozen=frozen)
    assert found.dtype == np.float64
    assert found.sum() == pytest.approx(1)
    assert not found[~kept].any(), "what is frozen is never drawn"
    there = np.unique(kinds[kept])
    for kind in there:
        among = found[kept & (kinds == kind)]
        assert among.sum() == pytest.approx(1 / len(there))
        assert np.ptp(among) == 0


def test_pairs_follow_the_order_of_the_episodes(play):
    there, back = (chances(play, "dots", episode_ids=ids) for ids in ((0, 1), (1, 0)))
    np.testing.assert_allclose(np.roll(there, 4), back)


@pytest.mark.parametrize(("balance", "frozen"), [("dots", False), ("mazes", False), ("none", True), ("motion", True)])
@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"unknown": ("ram",)}, r"frames: has no RAM, which --pairs.balance dots or mazes and .*leave_out_frozen look"),
        ({"game": "Breakout"}, r"leave_out_frozen know Ms. Pac-Man alone, not Breakout"),
        ({"game": "Pong"}, r"game Pong: what its RAM means is not known here; known: MsPacman, Breakout"),
    ],
)
def test_play_whose_ram_does_not_tell_is_refused(tmp_path, balance, frozen, how, told):
    with pytest.raises(LapaError, match=told):
        chances(made_play(tmp_path / "frames", **how), balance, frozen=frozen)


def test_motion_needs_no_ram(tmp_path, play):
    without = made_play(tmp_path / "frames", unknown=("ram",))
    np.testing.assert_array_equal(chances(without, "motion"), chances(play, "motion"))


def test_a_worker_whose_pairs_are_all_frozen_says_whose(tmp_path):
    ram = made_ram(4)
    ram[:, PHASE] = 0
    moving = write_play(tmp_path / "frames", [(ram, screens([1, 1, 1])), (made_ram(4), screens([1, 1, 1]))])
    assert chances(moving, "none", frozen=True).tolist() == pytest.approx([0] * 3 + [1 / 3] * 3)
    with pytest.raises(
        LapaError,
        match=r"frames: every pair is frozen of the 1 training episodes that a worker has, from episode 0 on; ",
    ):
        chances(moving, "none", frozen=True, episode_ids=(0,))


CHANCES = np.array([0.5, 0.0, 0.3, 0.2, 0.0])


def drawn(turn: Turn, seed: int = 3, rank: int = 0) -> list[int]:
    """Which pairs of a store of five, whose pictures are their numbers."""
    store = PairStore([np.arange(6, dtype=np.uint8)[:, None, None]])
    before, after = BalancedPairs(store, CHANCES, Draw(1, seed=seed, rank=rank, world_size=2)).batch(turn)
    np.testing.assert_array_equal(before + 1, after)
    return before[:, 0, 0].tolist()


def test_pairs_are_drawn_as_often_as_asked_and_those_without_a_chance_never():
    count = 20_000
    found = np.bincount(drawn(Turn(0, 0, np.arange(count))), minlength=5) / count
    assert found[CHANCES == 0].tolist() == [0, 0]
    np.testing.assert_allclose(found, CHANCES, atol=4 * 0.5 / np.sqrt(count))


def test_a_batch_is_the_same_whenever_it_is_drawn_and_no_two_are_alike():
    """So a resumed training goes on with the draws of one that was never stopped."""
    turns = [Turn(epoch, batch, np.arange(50)) for epoch in range(2) for batch in range(2)]
    found = [drawn(turn) for turn in turns]
    assert found[::-1] == [drawn(turn) for turn in reversed(turns)]
    others = [drawn(turns[0], seed=4), drawn(turns[0], rank=1)]
    assert len({tuple(batch) for batch in [*found, *others]}) == 6


def test_chances_apply_to_the_pairs_of_the_worker(play):
    draw = Draw(1, rank=1, world_size=2)
    pairs = training_pairs(
        play, play.episode_ids, draw, 1.0, partial(pair_chances, balance="dots", leave_out_frozen=False)
    )
    assert pairs.num_items == 4
    _, after = pairs.batch(Turn(0, 0, np.zeros(400, np.int64)))
    assert 150 < sum((picture == play.composites(1)[3]).all() for picture in after) < 250, "half of them, not a quarter"


def test_chances_need_memory(play):
    with pytest.raises(
        LapaError, match=r"--pairs.max_memory_gb 1e-06: pairs of different chances are drawn from memory"
    ):
        training_pairs(play, play.episode_ids, Draw(1), 1e-6, lambda *_: CHANCES)
