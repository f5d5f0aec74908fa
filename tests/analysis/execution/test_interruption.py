import os
import signal
import threading
from typing import Any

import pytest

from analysis.execution.interruption import Interruption

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in SIGNALS]


def test_nothing_is_requested_at_first() -> None:
    with Interruption() as interruption:
        assert not interruption.requested


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_only_asks(number: signal.Signals) -> None:
    with Interruption() as interruption:
        send(number)
        assert interruption.requested


@pytest.mark.parametrize("second", SIGNALS)
@pytest.mark.parametrize("first", SIGNALS)
def test_the_second_signal_insists(first: signal.Signals, second: signal.Signals) -> None:
    with Interruption():
        send(first)
        with pytest.raises(KeyboardInterrupt):
            send(second)


def test_signals_are_given_back() -> None:
    before = handlers()
    with Interruption():
        assert handlers() != before
    assert handlers() == before


def test_signals_are_given_back_after_an_error() -> None:
    before = handlers()
    with pytest.raises(RuntimeError, match="boom"), Interruption():
        raise RuntimeError("boom")
    assert handlers() == before


def test_it_can_be_entered_again() -> None:
    before = handlers()
    for _ in range(2):
        with Interruption() as interruption:
            send(signal.SIGINT)
            assert interruption.requested
    assert handlers() == before


def test_in_another_thread_it_does_nothing() -> None:
    before, inside = handlers(), []

    def work() -> None:
        with Interruption() as interruption:
            inside.extend([*handlers(), interruption.requested])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [*before, False]
