import io

import pytest

from lapa_ray.core import progress
from lapa_ray.core.errors import LapaError
from lapa_ray.core.progress import Progress


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    return clock


def lines(capsys) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_elsewhere_than_on_a_terminal_one_line_every_ten_seconds(clock, capsys):
    with Progress("bake", 1000, "steps") as bar:
        for _ in range(35):
            clock.now += 1.0
            bar.advance(10, note="loss 0.5")
        assert lines(capsys) == [
            "bake: 100/1,000 steps, 10 steps/s, 90 s left  loss 0.5",
            "bake: 200/1,000 steps, 10 steps/s, 80 s left  loss 0.5",
            "bake: 300/1,000 steps, 10 steps/s, 70 s left  loss 0.5",
        ]
    assert lines(capsys) == ["bake: 350/1,000 steps, 10 steps/s, 65 s left  loss 0.5"]


def test_slow_work_tells_its_rate_by_the_minute_and_that_it_goes_on(clock, capsys):
    with Progress("play", 4, "episodes") as bar:
        clock.now += 40.0
        bar.advance()
        clock.now += 10.0
        bar.advance(0)
    assert lines(capsys) == [
        "play: 1/4 episodes, 1.5 episodes/min, 120 s left",
        "play: 1/4 episodes, 1.2 episodes/min, 150 s left",
    ]


def test_a_resumed_run_tells_the_rate_of_this_start(clock, capsys):
    with Progress("bake", 1000, "steps", initial=500) as bar:
        clock.now += 10.0
        bar.advance_to(600)
    assert lines(capsys)[0] == "bake: 600/1,000 steps, 10 steps/s, 40 s left"


def test_nothing_done_and_all_done_tell_no_time_left(clock, capsys):
    with Progress("bake", 10, "steps") as bar:
        clock.now += 5.0
    assert lines(capsys) == ["bake: 0/10 steps, 0 steps/min"]
    with Progress("bake", 10, "steps") as bar:
        clock.now += 5.0
        bar.advance(10)
    assert lines(capsys) == ["bake: 10/10 steps, 2 steps/s"]


def test_a_fault_before_the_first_unit_is_not_preceded_by_a_line(clock, capsys):
    with pytest.raises(ZeroDivisionError):
        fail_after(-1)
    with pytest.raises(ZeroDivisionError):
        fail_after(2)
    assert lines(capsys) == ["bake: 3/10 steps, 3 steps/s, 2 s left"]


def fail_after(done: int, error: type[Exception] = ZeroDivisionError, seconds: float = 1.0) -> None:
    with Progress("bake", 10, "steps") as bar:
        progress.time.monotonic.now += seconds
        bar.advance(done)
        bar.advance()
        raise error


def test_bad_input_is_told_alone_unless_lines_went_before_it(clock, capsys):
    with pytest.raises(LapaError):
        fail_after(3, LapaError)
    assert lines(capsys) == []
    with pytest.raises(LapaError):
        fail_after(3, LapaError, seconds=20.0)
    assert [line.partition(",")[0] for line in lines(capsys)] == ["bake: 3/10 steps", "bake: 4/10 steps"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_with_rate_and_count(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Progress("bake", 40, "steps") as bar:
        bar.advance(40, note="loss 0.5")
    shown = terminal.getvalue()
    assert "bake" in shown
    assert "40/40" in shown
    assert "steps/s" in shown
    assert "loss 0.5" in shown


def test_the_last_count_is_told_once(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("lapa_ray.core.progress.time.monotonic", lambda: now[0])
    with Progress("count", 3, "steps") as progress:
        now[0] = 11.0
        progress.advance_to(3)
    assert capsys.readouterr().err.count("3/3") == 1
