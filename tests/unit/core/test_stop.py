import os
import signal
import threading

import pytest

from lapa_ray.core.stop import stop_on_signal


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_interrupts(name, capsys):
    with stop_on_signal() as stop:
        assert not stop
        os.kill(os.getpid(), name)
        assert stop
        assert "saving a checkpoint" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), name)


def test_the_handlers_of_before_are_back_after_the_block():
    before = [signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)]
    with stop_on_signal():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert [signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)] == before


def test_what_is_handled_and_said_can_be_chosen(capsys):
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signal(signal.SIGINT, said="Soon ...") as stop:
        assert signal.getsignal(signal.SIGTERM) == before
        os.kill(os.getpid(), signal.SIGINT)
        assert stop
    assert capsys.readouterr().err == "\nSoon ...\n"


def test_outside_the_main_thread_the_request_is_set_by_hand():
    seen = []

    def work():
        with stop_on_signal() as stop:
            stop.set()
            seen.append(bool(stop))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]
