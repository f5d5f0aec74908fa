import io
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from analysis.execution.progress import NotebookReporter, Reporter, reporter_of, screens, silent

SILENCE = {name: getattr(screens, name) for name in ("FIRST_LINE_SECONDS", "LINE_SECONDS")}  # as users have them


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def log(clock: Clock | None = None) -> tuple[Reporter, io.StringIO]:
    stream = io.StringIO()
    return Reporter(Console(file=stream, width=80), clock=clock or Clock()), stream


def terminal() -> tuple[Reporter, io.StringIO]:
    stream = io.StringIO()
    console = Console(file=stream, width=200, force_terminal=True, force_interactive=True, color_system=None)
    return Reporter(console, clock=Clock()), stream


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
    assert stream.getvalue() == "train: 3/3 in 0 s, good\n"


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return a clock; screens tick when a test says so, not by themselves."""
    monkeypatch.setattr(screens, "BEAT_SECONDS", 1e6)
    for name, seconds in SILENCE.items():
        monkeypatch.setattr(screens, name, seconds)
    return Clock()


def pass_time(reporter: Reporter, clock: Clock, seconds: int) -> None:
    for _ in range(4 * seconds):
        clock.now += 0.25
        reporter._screen.tick()


def test_a_log_is_silent_for_three_seconds_at_first_and_then_for_ten(ticks: Clock) -> None:
    reporter, stream = log(ticks)
    with reporter.task("train", 4) as task:
        for note in ("a", "b", "c", ""):
            pass_time(reporter, ticks, 8)
            task.advance(1, note)
    assert stream.getvalue().splitlines() == [
        "train: 0/4 in 2 s",
        "train: 1/4 in 12 s, about 20 s left, a",
        "train: 2/4 in 22 s, about 10 s left, b",
        "train: 3/4 in 31 s, about 1 s left, c",
        "train: 4/4 in 32 s, c",
    ]


def test_silence_counts_across_pieces_of_work(ticks: Clock) -> None:
    reporter, stream = log(ticks)
    for name in ("Reading runs", "Planning", "Drawing"):
        with reporter.task(name):
            pass_time(reporter, ticks, 2)
        ticks.now += 60  # of the caller's own work
    assert stream.getvalue().splitlines() == ["Planning: 0 s", "Drawing: 1 s"]


def test_the_innermost_piece_of_work_is_shown(ticks: Clock) -> None:
    reporter, stream = log(ticks)
    with reporter.task("compare"):
        with reporter.task("Reading 3 runs"):
            pass_time(reporter, ticks, 3)
        pass_time(reporter, ticks, 3)
    assert stream.getvalue().splitlines() == ["Reading 3 runs: 2 s", "compare: 5 s"]


def test_work_of_unknown_amount_leaves_no_trace_on_a_terminal() -> None:
    reporter, stream = terminal()
    with reporter.task("Reading runs"):
        pass
    assert "Reading runs" in stream.getvalue()
    assert stream.getvalue().rstrip().endswith("\x1b[2K") or "Reading" not in stream.getvalue().splitlines()[-1]


def test_a_terminal_shows_inner_work_in_place_of_outer() -> None:
    reporter, stream = terminal()
    with reporter.task("compare"):
        with reporter.task("analysis", 2) as task:
            task.advance(2, "report")
        reporter.say("hello")
    assert all(text in stream.getvalue() for text in ("compare", "analysis", "2/2 in 0 s, report", "hello"))


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
    assert kernel == ["hello", f"train {30 * chr(0x2588)} 4/4 in 0 s, late"]
    assert reporter_of(False).quiet


def test_a_notebook_shows_how_far_work_came_that_failed(kernel: list[str]) -> None:
    with pytest.raises(RuntimeError, match="boom"), reporter_of(True).task("train", 3) as task:
        task.advance()
        raise RuntimeError("boom")
    assert kernel == [f"train {10 * chr(0x2588)}{20 * chr(0x2591)} 1/3 in 0 s"]


def test_a_shell_without_a_kernel_is_no_notebook(kernel: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: SimpleNamespace())
    assert reporter_of(None).quiet
