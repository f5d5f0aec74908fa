import io

import pytest
from rich.console import Console

from analysis.execution import progress
from analysis.execution.progress import Reporter, silent


def log() -> tuple[Reporter, io.StringIO]:
    stream = io.StringIO()
    return Reporter(Console(file=stream, width=80)), stream


def terminal() -> tuple[Reporter, io.StringIO]:
    stream = io.StringIO()
    return Reporter(Console(file=stream, width=200, force_terminal=True, color_system=None)), stream


def test_messages_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter().say("hello")
    assert capsys.readouterr() == ("", "hello\n")


@pytest.mark.parametrize("message", ["x" * 200, "runs/[red]a[/blue]", "a:cat:b", "1 2 'three'"])
def test_a_message_is_printed_unchanged_on_one_line(message: str) -> None:
    reporter, stream = log()
    reporter.say(message)
    assert stream.getvalue() == f"{message}\n"


def test_a_log_gets_one_line_at_the_end_of_a_short_task() -> None:
    reporter, stream = log()
    with reporter.task("train", 3) as task:
        task.advance(2, "good")
        task.advance()
    assert stream.getvalue() == "train: 3/3 in 0 s good\n"


def test_a_log_gets_a_line_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 11.0, 11.0, 12.0, 30.0, 30.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    reporter, stream = log()
    with reporter.task("train", 4) as task:
        for note in ("a", "b", "c", ""):
            task.advance(1, note)
    assert stream.getvalue().splitlines() == ["train: 2/4, about 11 s left b", "train: 4/4 in 30 s c"]


def test_a_failed_task_is_not_reported_as_done() -> None:
    reporter, stream = log()
    with pytest.raises(RuntimeError, match="boom"), reporter.task("train", 3):
        raise RuntimeError("boom")
    assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar_with_the_count_and_the_note() -> None:
    reporter, stream = terminal()
    with reporter.task("train", 2) as task:
        task.advance(1, "early")
        task.advance(1, "late")
    assert all(text in stream.getvalue() for text in ("train", "━", "2/2", "late"))


@pytest.mark.parametrize("name", ["sg[all]", "[/red]"])
def test_a_bar_shows_brackets_in_names(name: str) -> None:
    reporter, stream = terminal()
    with reporter.task(name, 1) as task:
        task.advance(1, f"at {name}")
    assert f"at {name}" in stream.getvalue()
    assert stream.getvalue().count(name) > stream.getvalue().count(f"at {name}")


def test_the_silent_reporter_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = silent()
    reporter.say("hello")
    with reporter.task("train", 1) as task:
        task.advance(1, "note")
    assert capsys.readouterr() == ("", "")
