"""Progress for people: bars on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Reporter", "Task", "in_words", "silent"]

_SECONDS_BETWEEN_LINES = 10.0
_ENOUGH_TO_TELL = 0.05  # of the work, before one can say how long the rest takes


class Task(Protocol):
    """One piece of work under way."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Tell that more is done, with a short note on how it goes."""


class Reporter:
    """Says what is going on. Messages and bars go to standard error, results to standard output.

    Parameters
    ----------
    console : rich.console.Console, optional
        Standard error by default.
    quiet : bool, default False
        Say nothing.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.quiet = quiet

    def say(self, message: str) -> None:
        """Print one line."""
        if not self.quiet:
            self.console.print(message, markup=False, emoji=False, soft_wrap=True)

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        """Follow one piece of work of ``total`` units."""
        if self.quiet:
            yield _Silent()
        elif self.console.is_terminal:
            with self._bar() as bar:
                yield _Bar(bar, name, total)
        else:
            lines = _Lines(self, name, total)
            yield lines
            lines.finish()

    def _bar(self) -> Progress:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        return Progress(*columns, console=self.console)


def silent() -> Reporter:
    """Return a reporter that says nothing: the default of functions called from Python."""
    return Reporter(quiet=True)


def in_words(seconds: float) -> str:
    """Return about how long it is.

    Examples
    --------
    >>> in_words(50), in_words(100)
    ('about 50 s', 'about 2 min')
    """
    return f"about {seconds:.0f} s" if seconds < 60 else f"about {seconds / 60:.0f} min"


class _Silent:
    def advance(self, amount: int = 1, note: str = "") -> None:
        pass


class _Bar:
    def __init__(self, bar: Progress, name: str, total: int) -> None:
        self._bar = bar
        self._id = bar.add_task(name, total=total, note="")

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._bar.update(self._id, advance=amount)
        if note:
            self._bar.update(self._id, note=note)


class _Lines:
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
