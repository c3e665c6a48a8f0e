import numpy as np
import pytest

from lapa_ray.core.files import TEMPORARY_PREFIX, replacing, write_json, write_text
from lapa_ray.core.seeds import generator_for, seed_for


def names(folder) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


def test_a_file_is_whole_or_as_before(tmp_path):
    path = tmp_path / "deep" / "value.json"
    write_json(path, {"a": 1})
    with pytest.raises(ZeroDivisionError):
        write_half(path)
    assert names(path.parent) == ["value.json"]
    assert path.read_text() == '{\n  "a": 1\n}\n'


def write_half(path):
    with replacing(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == '{\n  "a": 1\n}\n'
        raise ZeroDivisionError


def test_half_written_files_are_told_by_their_name(tmp_path):
    with replacing(tmp_path / "a.txt") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(TEMPORARY_PREFIX)
        temporary.write_text("x")
    assert names(tmp_path) == ["a.txt"]


def test_text_is_utf8_and_numbers_that_are_none_are_refused(tmp_path):
    write_text(tmp_path / "t", "α ≤ 1")
    assert (tmp_path / "t").read_bytes() == "α ≤ 1".encode()
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "n", float("nan"))
    assert names(tmp_path) == ["t"]


def test_seeds_are_the_same_for_ever():
    assert seed_for(0) == 1137565557
    assert seed_for(0, "episode", 7) == 1220471022


def test_each_stream_has_its_own_seed():
    names = [(), ("a",), ("a", 1), ("a", 11), ("a1", 1), ("a", "1", "1")]
    seeds = {seed_for(seed, *name) for seed in (0, 1) for name in names}
    assert len(seeds) == 2 * len(names)
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_generators_repeat():
    first, second = (generator_for(3, "worker", 1).random(4) for _ in range(2))
    np.testing.assert_array_equal(first, second)
