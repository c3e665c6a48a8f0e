import numpy as np

from lapa_ray.evaluation.play_panel import BEST, CHOSEN, Moment, PlayPanel

NAMES = ("NOOP", "UP", "LEFT")
SCREEN = np.random.default_rng(0).integers(0, 256, (21, 16, 3), dtype=np.uint8)


def panel(scale: int = 9, height: int = 21) -> PlayPanel:
    return PlayPanel("DQN", NAMES, height, 16, scale)


def test_the_game_stands_on_the_left_to_the_pixel_and_the_size_is_even():
    drawn = panel().draw(SCREEN, Moment(0.0, 0, 3, None))
    assert drawn.shape == (*panel().shape, 3)
    assert panel().shape[0] % 2 == panel().shape[1] % 2 == 0
    np.testing.assert_array_equal(drawn[4 : 21 * 9 : 9, 4 : 16 * 9 : 9], SCREEN)


def bars(drawn: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Pixels of just this colour."""
    return int((drawn == colour).all(axis=-1).sum())


def test_bars_grow_with_the_values_seen_and_the_chosen_action_is_marked():
    high = np.zeros((210, 160, 3), dtype=np.uint8)
    values = np.array([1.0, 3.0, 2.0])
    drawn = PlayPanel("DQN", NAMES, 210, 160, 2).draw(high, Moment(10.0, 4, 3, 2, False, values))
    chosen, best = bars(drawn, CHOSEN), bars(drawn, BEST)
    assert best > 1.5 * chosen > 300  # half the range of values, and all of it
    other = PlayPanel("DQN", NAMES, 210, 160, 2)
    other.draw(high, Moment(0.0, 1, 3, 0, False, np.array([-7.0, 13.0, 0.0])))
    later = other.draw(high, Moment(10.0, 4, 3, 2, False, values))
    assert bars(later, BEST) < 0.7 * best  # its scale has grown


def test_without_values_there_are_no_bars_and_what_is_told_changes_the_picture():
    high = np.zeros((210, 160, 3), dtype=np.uint8)
    told = PlayPanel("random", NAMES, 210, 160, 2)
    first, second, by_chance = (
        told.draw(high, moment)
        for moment in (Moment(0.0, 1, 3, 0), Moment(1230.0, 1, 3, 0), Moment(1230.0, 1, 3, 0, is_random=True))
    )
    assert bars(first, BEST) == 0
    assert (first != second).any()
    assert (second != by_chance).any()
