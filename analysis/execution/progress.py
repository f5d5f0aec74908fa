"""Progress for people: bars on a terminal and in a notebook, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich import progress as rich_progress
from rich.console import Console

__all__ = ["Progress", "Reporter", "Shown", "in_words", "reporter_of", "silent"]

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_UPDATES = 0.2  # in a notebook
_WIDTH = 30  # characters of a bar in a notebook
_ENOUGH_TO_TELL = 0.05  # of the work, before the remaining time is estimated


class Progress(Protocol):
    """Progress of work of a known amount."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count more units as done, and show a short note."""


class Reporter:
    """Shows messages and progress on standard error; results go to standard output."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.quiet = quiet

    def say(self, message: str) -> None:
        """Print one line."""
        if not self.quiet:
            self.console.print(message, markup=False, emoji=False, soft_wrap=True)

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Progress]:
        """Yield the progress of work of ``total`` units."""
        if self.quiet:
            yield _SilentProgress()
        elif self.console.is_terminal:
            with self._bar() as bar:
                yield _BarProgress(bar, name, total)
        else:
            lines = _LineProgress(self, name, total)
            yield lines
            lines.finish()

    def _bar(self) -> rich_progress.Progress:
        columns = (
            rich_progress.TextColumn("{task.description}", markup=False),
            rich_progress.BarColumn(),
            rich_progress.MofNCompleteColumn(),
            rich_progress.TimeRemainingColumn(),
            rich_progress.TextColumn("{task.fields[note]}", markup=False),
        )
        return rich_progress.Progress(*columns, console=self.console)


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


class NotebookReporter(Reporter):
    """Shows messages and progress in the output of a notebook cell, as text; a bar is one line that is rewritten."""

    def say(self, message: str) -> None:
        """Show one line."""
        _notebook().display({"text/plain": message}, raw=True)

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Progress]:
        """Yield the progress of work of ``total`` units."""
        bar = _NotebookProgress(name, total)
        try:
            yield bar
        finally:
            bar.show()


def in_words(seconds: float) -> str:
    """Return a duration in words.

    Examples
    --------
    >>> in_words(50), in_words(100)
    ('about 50 s', 'about 2 min')
    """
    return f"about {seconds:.0f} s" if seconds < 60 else f"about {seconds / 60:.0f} min"


class _SilentProgress:
    def advance(self, amount: int = 1, note: str = "") -> None:
        pass


class _BarProgress:
    def __init__(self, bar: rich_progress.Progress, name: str, total: int) -> None:
        self._bar = bar
        self._id = bar.add_task(name, total=total, note="")

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._bar.update(self._id, advance=amount)
        if note:
            self._bar.update(self._id, note=note)


class _NotebookProgress:
    """One line of text in the output of a cell, rewritten a few times a second."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total, self._done, self._note = name, total, 0, ""
        self._started = self._shown = time.monotonic()
        self._handle = _notebook().display({"text/plain": self._line()}, raw=True, display_id=True)

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._done += amount
        self._note = note or self._note
        if time.monotonic() - self._shown >= _SECONDS_BETWEEN_UPDATES:
            self.show()

    def show(self) -> None:
        """Rewrite the line."""
        self._shown = time.monotonic()
        self._handle.update({"text/plain": self._line()}, raw=True)

    def _line(self) -> str:
        filled = round(_WIDTH * min(1.0, self._done / max(self._total, 1)))
        bar = "\u2588" * filled + "\u2591" * (_WIDTH - filled)
        seconds = in_words(time.monotonic() - self._started).removeprefix("about ")
        return f"{self._name} {bar} {self._done}/{self._total} in {seconds} {self._note}".rstrip()


class _LineProgress:
    def __init__(self, reporter: Reporter, name: str, total: int) -> None:
        self._reporter, self._name, self._total = reporter, name, total
        self._done, self._note = 0, ""
        self._started = self._spoke = time.monotonic()

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._done += amount
        self._note = note or self._note
        if time.monotonic() - self._spoke >= _SECONDS_BETWEEN_LINES and self._done < self._total:
            self._spoke = time.monotonic()
            self._reporter.say(f"{self._name}: {self._done}/{self._total}{self._left()} {self._note}".rstrip())

    def _left(self) -> str:
        if self._done < self._total * _ENOUGH_TO_TELL:
            return ""
        left = (self._total - self._done) * (self._spoke - self._started) / max(self._done, 1)
        return f", {in_words(left)} left"

    def finish(self) -> None:
        seconds = time.monotonic() - self._started
        self._reporter.say(f"{self._name}: {self._done}/{self._total} in {seconds:.0f} s {self._note}".rstrip())
