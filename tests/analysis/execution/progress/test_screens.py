"""Screens of real processes: how long a command with a slow part is silent."""

import itertools
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
SLOW = """
import sys, time
from analysis.config.execution import ExecutionConfig
from analysis.execution import Task, run_tasks
from analysis.execution.progress import Reporter
sys.path.insert(0, {folder!r})
from slow_part import busy

reporter = Reporter()
with reporter.task("Comparing"):
    busy()
    run_tasks([Task("figures", busy)], ExecutionConfig(executor={executor!r}, jobs=2, progress=reporter))
"""
PART = """
import time
def busy():
    until = time.monotonic() + {seconds}
    while time.monotonic() < until:
        sum(range(10_000))  # keeps the interpreter to itself, as imports do
"""


def pseudo_terminal() -> tuple[int, int]:
    """Return both ends of a terminal; skip the test where the system has none, as in a bare root."""
    try:
        return pty.openpty()
    except OSError as error:
        pytest.skip(f"there is no pseudo-terminal: {error}")


def through_a_terminal(command: list[str]) -> tuple[list[float], str]:
    """Run a command whose standard error is a terminal; return when it wrote, and all that it wrote."""
    ours, theirs = pseudo_terminal()
    with subprocess.Popen(command, stderr=theirs, cwd=ROOT) as process:
        os.close(theirs)
        read = lambda: os.read(ours, 65536)  # noqa: E731
        found = collect(read)
    os.close(ours)
    assert process.returncode == 0
    return found


def through_a_pipe(command: list[str]) -> tuple[list[float], str]:
    """Run a command whose standard error is a file; return when it wrote, and all that it wrote."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stderr is not None
        number = process.stderr.fileno()
        found = collect(lambda: os.read(number, 65536))
    assert process.returncode == 0
    return found


def collect(read: Callable[[], bytes]) -> tuple[list[float], str]:
    times, parts = [], []
    while True:
        try:
            part = read()
        except OSError:  # the terminal is closed
            part = b""
        if not part:
            return times, b"".join(parts).decode()
        times.append(time.monotonic())
        parts.append(part)


@pytest.mark.parametrize("executor", ["serial", "processes"])
@pytest.mark.parametrize("screen", [through_a_terminal, through_a_pipe])
def test_a_slow_part_is_never_silent_for_more_than_three_seconds(
    tmp_path: Path, screen: Callable[[list[str]], tuple[list[float], str]], executor: str
) -> None:
    if (executor, screen) == ("processes", through_a_pipe):
        pytest.skip("the other three show it")
    (tmp_path / "slow_part.py").write_text(PART.format(seconds=2.8))
    command = [sys.executable, "-c", SLOW.format(folder=str(tmp_path), executor=executor)]
    for _ in range(3):  # as imports take seconds on a busy machine
        times, text = screen(command)
        longest = max(after - before for before, after in itertools.pairwise(times))
        if longest < 3.5:
            break
    assert longest < 3.5
    assert "Comparing" in text
    assert "tasks" in text
    assert "1/1 in" in text


def test_results_on_standard_output_stay_there_while_a_bar_is_shown() -> None:
    script = (
        "from analysis.execution.progress import Reporter\n"
        "with Reporter().task('Comparing'):\n    print('result', flush=True)"
    )
    ours, theirs = pseudo_terminal()
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=theirs, cwd=ROOT, check=True)
    os.close(theirs)
    os.close(ours)
    assert done.stdout == b"result\n"
