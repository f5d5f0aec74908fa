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


@pytest.mark.parametrize("second", SIGNALS)
@pytest.mark.parametrize("first", SIGNALS)
def test_the_first_signal_sets_requested_and_the_second_raises(first: signal.Signals, second: signal.Signals) -> None:
    with Interruption() as interruption:
        assert not interruption.requested
        send(first)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            send(second)


def test_handlers_are_restored_also_after_an_error() -> None:
    before = handlers()
    with Interruption():
        assert handlers() != before
    assert handlers() == before
    with pytest.raises(RuntimeError, match="boom"), Interruption():
        raise RuntimeError("boom")
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
