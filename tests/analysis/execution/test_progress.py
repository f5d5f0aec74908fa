import io
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from analysis.execution import progress
from analysis.execution.progress import NotebookReporter, Reporter, reporter_of, silent


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


# Calls from Python


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make this process look like the kernel of a notebook, and return what its cell shows, line by line."""
    lines: list[str] = []

    def display(data: dict[str, str], raw: bool, display_id: bool = False) -> Any:
        lines.append(data["text/plain"])
        number = len(lines) - 1
        return SimpleNamespace(update=lambda data, raw: lines.__setitem__(number, data["text/plain"]))

    ipython = ModuleType("IPython")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    ipython.display = SimpleNamespace(display=display)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    return lines


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_shown_by_default_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    assert reporter_of(None).quiet is not is_terminal
    assert reporter_of(False).quiet
    assert not reporter_of(True).quiet
    given = Reporter()
    assert reporter_of(given) is given


def test_a_notebook_shows_messages_and_one_line_that_is_rewritten(kernel: list[str]) -> None:
    reporter = reporter_of(None)
    assert isinstance(reporter, NotebookReporter)
    reporter.say("hello")
    with reporter.task("train", 4) as task:
        task.advance(1, "early")
        task.advance(3, "late")
    assert kernel == ["hello", f"train {30 * chr(0x2588)} 4/4 in 0 s late"]
    assert reporter_of(False).quiet


def test_a_notebook_shows_how_far_work_came_that_failed(kernel: list[str]) -> None:
    with pytest.raises(RuntimeError, match="boom"), reporter_of(True).task("train", 3) as task:
        task.advance()
        raise RuntimeError("boom")
    assert kernel == [f"train {10 * chr(0x2588)}{20 * chr(0x2591)} 1/3 in 0 s"]


def test_a_shell_without_a_kernel_is_no_notebook(kernel: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: SimpleNamespace())
    assert reporter_of(None).quiet
