import numpy as np
import pytest

from lapa_ray.envs.breakout import BRICK_COLUMNS, BRICK_ROWS, bricks_of
from lapa_ray.envs.entities import Direction, entities_of


def ram(**bytes_: int) -> np.ndarray:
    memory = np.zeros(128, dtype=np.uint8)
    for name, value in bytes_.items():
        memory[int(name[1:])] = value
    return memory


def test_bytes_mean_what_the_map_says():
    told = entities_of("Breakout").read(ram(b72=100, b99=120, b101=90, b57=3, b76=0x04, b77=0x32))
    player, ball = told.sprites["player"], told.sprites["ball"]
    assert (int(player.left), int(player.top), player.width, player.height) == (53, 189, 16, 4)
    assert (int(ball.left), int(ball.top), ball.width, ball.height) == (71, 99, 2, 4)
    assert (told.score, told.lives) == (432, 3)
    assert ball.present
    assert ball.direction == Direction.UNKNOWN
    assert not entities_of("Breakout").read(ram(b72=100)).sprites["ball"].present


def test_each_brick_has_two_bits_of_its_own():
    bits = np.zeros((36 * 8, 128), dtype=np.uint8)
    for number in range(len(bits)):
        bits[number, number // 8] = 1 << number % 8
    bricks = bricks_of(bits)
    assert bricks.shape == (288, BRICK_ROWS, BRICK_COLUMNS)
    assert set(bricks.sum(axis=(1, 2)).tolist()) == {0, 1}
    np.testing.assert_array_equal(bricks.sum(axis=0), 2)
    assert bricks[30 * 8 + 7, 5, 0]  # the wall's own half of the left end is no brick
    assert not bricks[30 * 8 + 5].any()


def test_one_frame_and_any_block_of_frames_read_the_same():
    memory = np.random.default_rng(0).integers(0, 256, (3, 4, 128), dtype=np.uint8)
    block, one = entities_of("Breakout").read(memory), entities_of("Breakout").read(memory[2, 1])
    assert block.score[2, 1] == one.score
    np.testing.assert_array_equal(block.bricks[2, 1], one.bricks)
    for name in entities_of("Breakout").sprite_names:
        for part in ("left", "top", "direction", "present"):
            assert getattr(block.sprites[name], part).shape == (3, 4)
            assert getattr(block.sprites[name], part)[2, 1] == getattr(one.sprites[name], part)
    with pytest.raises(ValueError, match="ram has 127 bytes"):
        entities_of("Breakout").read(np.zeros(127, dtype=np.uint8))
