import pytest

from lapa_ray.actors.stopwatch import Stopwatch


def test_parts_are_told_once_and_items_pass_through():
    watch = Stopwatch()
    passed = []
    for item in watch.each("waiting", range(3)):
        with watch.part("working"):
            passed.append(item)
    assert passed == [0, 1, 2]
    told = watch.take()
    assert set(told) == {"waiting", "working"}
    assert min(told.values()) > 0
    assert watch.take() == {}


def test_a_part_that_fails_is_counted_too():
    watch = Stopwatch()
    with pytest.raises(KeyError), watch.part("working"):
        raise KeyError
    assert set(watch.take()) == {"working"}
