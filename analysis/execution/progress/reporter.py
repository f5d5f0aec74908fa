"""Reporter through which functions and commands show messages and progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.console import Console

from analysis.execution.progress.forecasts import Forecast, StepForecast
from analysis.execution.progress.screens import LogScreen, NotebookScreen, Screen, TerminalScreen
from analysis.execution.progress.work import Clock, Progress, Work

if TYPE_CHECKING:
    from analysis.config.execution import ExecutionConfig

__all__ = ["NotebookReporter", "Reporter", "Shown", "reporter_of", "silent", "watched"]


class Reporter:
    """Shows messages and progress on standard error; results go to standard output."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False, clock: Clock = time.monotonic) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.quiet, self.clock = quiet, clock
        self._screen = self._make_screen()

    def say(self, message: str) -> None:
        """Print one line."""
        if not self.quiet:
            self._screen.say(message)

    @contextmanager
    def task(self, name: str, amount: int | Forecast | None = None) -> Iterator[Progress]:
        """Show a piece of work while it is done, and yield its progress.

        Parameters
        ----------
        name : str
            What is being done.
        amount : int or Forecast, optional
            Number of units, whose remaining time is estimated as that of equal steps, or a forecast. By default the
            amount is unknown, and only the elapsed time is shown.

        Yields
        ------
        Progress
        """
        work = Work(name, StepForecast(amount) if isinstance(amount, int) else amount, self.clock)
        if self.quiet:
            yield work
            return
        self._screen.begin(work)
        try:
            yield work
        except BaseException:
            self._screen.end(work, failed=True)
            raise
        self._screen.end(work, failed=False)

    def _make_screen(self) -> Screen:
        return (TerminalScreen if self.console.is_interactive else LogScreen)(self.console, self.clock)


class NotebookReporter(Reporter):
    """Shows messages and progress in the output of a notebook cell."""

    def _make_screen(self) -> Screen:
        return NotebookScreen(_notebook, self.clock)


Shown = Reporter | bool | None


def reporter_of(progress: Shown) -> Reporter:
    """Return the reporter that a function called from Python uses.

    ``progress`` is a reporter, or whether progress is shown; None shows it if standard error is a terminal, and in a
    notebook.
    """
    if isinstance(progress, Reporter):
        return progress
    if progress is False or (progress is None and not _is_watched()):
        return silent()
    return NotebookReporter() if _notebook() is not None else Reporter()


def silent() -> Reporter:
    """Return a reporter that shows nothing."""
    return Reporter(quiet=True)


@contextmanager
def watched(execution: ExecutionConfig | None, name: str) -> Iterator[tuple[ExecutionConfig, Reporter]]:
    """Show a call while it runs; yield its settings with the one reporter that all parts of it use, and the reporter.

    Whatever the parts show is shown in place of the call.
    """
    from analysis.config.execution import ExecutionConfig

    execution = execution or ExecutionConfig()
    reporter = reporter_of(execution.progress)
    with reporter.task(name):
        yield replace(execution, progress=reporter), reporter


def _is_watched() -> bool:
    return _notebook() is not None or bool(sys.stderr is not None and sys.stderr.isatty())


def _notebook() -> Any:
    """Return the module ``IPython.display`` if this process is the kernel of a notebook, else None."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython import display  # an IPython kernel has it

    return display
