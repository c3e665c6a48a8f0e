import numpy as np
import pytest

from lapa_ray.core.errors import LapaError
from lapa_ray.envs.entities import Direction, entities_of
from lapa_ray.envs.mazes import (
    COLUMNS,
    FAR,
    NUM_CELLS,
    NUM_MAZES,
    ROWS,
    cell_of,
    cell_positions,
    dot_pixels,
    maze_of,
)
from lapa_ray.envs.ms_pacman import dots_of, score_of


def _ram(**bytes_: int) -> np.ndarray:
    ram = np.zeros(128, dtype=np.uint8)
    for name, value in bytes_.items():
        ram[int(name[1:])] = value
    return ram


def test_a_game_without_a_map_is_refused_with_those_that_have_one():
    with pytest.raises(LapaError, match=r"^game Pong: .* known: MsPacman, Breakout\.$"):
        entities_of("Pong")


def test_score_is_three_bytes_of_two_digits():
    assert score_of(_ram(b120=0x90, b121=0x47, b122=0x12)) == 124790


def test_one_frame_and_any_block_of_frames_read_the_same():
    ram = np.random.default_rng(0).integers(0, 256, (3, 4, 128), dtype=np.uint8)
    entity_map = entities_of("MsPacman")
    block, one = entity_map.read(ram), entity_map.read(ram[2, 1])
    assert block.dots.shape == (3, 4, ROWS, COLUMNS)
    assert block.frightened.shape == (3, 4, 4)
    assert one.score.shape == ()
    for name in entity_map.sprite_names:
        for part in ("left", "top", "direction", "present"):
            array = getattr(block.sprites[name], part)
            assert array.shape == (3, 4)
            assert array[2, 1] == getattr(one.sprites[name], part)
    for name in (
        "score",
        "lives",
        "fright_timer",
        "ghosts_eaten",
        "num_ghosts",
        "dots_eaten",
        "pills",
        "level",
        "maze",
    ):
        assert getattr(block, name).shape == (3, 4)
        assert getattr(block, name)[2, 1] == getattr(one, name)
    np.testing.assert_array_equal(block.dots[2, 1], one.dots)


def test_bytes_mean_what_the_map_says():
    told = entities_of("MsPacman").read(
        _ram(b0=1, b10=90, b16=98, b56=0b1110, b3=0x85, b19=2, b116=0b01000101, b117=0b101000, b119=77, b123=0x21)
    )
    player = told.sprites["player"]
    assert (int(player.left), int(player.top), player.width, player.height) == (78, 99, 8, 10)
    assert player.direction == Direction.DOWN
    assert told.sprites["pinky"].direction == Direction.RIGHT
    assert told.sprites["fruit"].direction == Direction.UNKNOWN
    assert not told.sprites["fruit"].present
    assert told.frightened.tolist() == [False, False, True, False]
    assert [told.sprites[name].present.item() for name in ("sue", "inky", "pinky", "blinky")] == [True] * 3 + [False]
    assert (told.maze, told.level, told.lives, told.dots_eaten) == (1, 2, 2, 77)
    assert (told.fright_timer, told.ghosts_eaten, told.num_ghosts, told.pills) == (5, 1, 3, 2)
    assert entities_of("MsPacman").read(_ram(b118=64, b123=0x40)).level == 7


def test_each_dot_is_one_bit():
    full = np.zeros((ROWS * 3 * 8, 128), dtype=np.uint8)
    for number in range(len(full)):
        full[number, 59 + number // 8] = 1 << number % 8
    dots = dots_of(full).reshape(len(full), NUM_CELLS)
    assert set(dots.sum(axis=1).tolist()) == {0, 1}
    np.testing.assert_array_equal(dots.sum(axis=0), maze_of(0).floor.ravel())
    # Corners of the map, from the notes: byte 0 holds columns 0 and 17, byte 1 the left and byte 2 the right middle.
    assert dots[6].nonzero()[0].tolist() == [0]
    assert dots[3 * 8 * 13 + 4].nonzero()[0].tolist() == [13 * COLUMNS + 17]
    assert dots[8 + 1].nonzero()[0].tolist() == [4] or not maze_of(0).floor[0, 4]


def test_ram_of_another_size_is_refused():
    with pytest.raises(ValueError, match="ram has 127 bytes"):
        entities_of("MsPacman").read(np.zeros(127, dtype=np.uint8))


@pytest.mark.parametrize("number", range(NUM_MAZES))
def test_all_floor_of_a_maze_hangs_together(number):
    maze = maze_of(number)
    assert maze.floor.shape == (ROWS, COLUMNS)
    np.testing.assert_array_equal(maze.floor, maze.floor[:, ::-1])
    cells = np.flatnonzero(maze.floor)
    distance = maze.distances(cells[:1])
    assert distance[cells].max() < 60
    assert (distance[~maze.floor.ravel()] == FAR).all()
    for cell in cells:
        assert len(maze.neighbours[cell]) >= 2  # no dead ends
        assert all(cell in maze.neighbours[near] for near in maze.neighbours[cell])


def test_distances_go_along_corridors_and_through_tunnels():
    maze = maze_of(0)
    distance = maze.distances(np.array([4 * COLUMNS]))
    assert distance[4 * COLUMNS] == 0
    assert distance[4 * COLUMNS + 17] == 1
    assert distance[4 * COLUMNS + 1] == 1
    assert distance[2 * COLUMNS + 1] == 3
    assert distance[3 * COLUMNS] == FAR


def test_cells_and_positions_are_each_others_inverse():
    x, y = cell_positions()
    np.testing.assert_array_equal(cell_of(x, y), np.arange(NUM_CELLS))
    for shift in (-3, 3):
        np.testing.assert_array_equal(cell_of(x + shift, y), np.arange(NUM_CELLS))
        np.testing.assert_array_equal(cell_of(x, y + shift), np.arange(NUM_CELLS))
    columns, rows = dot_pixels()
    assert (columns[0], rows[0], columns[-1], rows[-1]) == (8, 7, 148, 163)
