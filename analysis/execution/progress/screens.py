"""Screens for progress: a terminal, a notebook and a log. None is silent for more than three seconds at first."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from rich import progress as rich_progress
from rich.console import Console
from rich.text import Text

from analysis.execution.progress.work import Clock, Work

__all__ = ["BEAT_SECONDS", "LogScreen", "NotebookScreen", "Screen", "TerminalScreen"]

BEAT_SECONDS = 0.25  # between looks whether something is to be shown
FIRST_LINE_SECONDS = 2.5  # of silence in a log, before work is mentioned for the first time
LINE_SECONDS = 9.5  # of silence in a log otherwise
_UPDATE_SECONDS = 0.5  # in a notebook
_WIDTH = 30  # characters of a bar in a notebook


class Screen(ABC):
    """Shows the innermost of the pieces of work that are being done, and keeps it up to date from a thread."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.works: list[Work] = []
        self._ticker: _Ticker | None = None

    def begin(self, work: Work) -> None:
        """Show a piece of work in place of the one that it is part of, if there is one."""
        self.show(work)
        self.works.append(work)
        if len(self.works) == 1:
            self.start()

    def end(self, work: Work, *, failed: bool) -> None:
        """Show how a piece of work ended, and go back to the one that it is part of."""
        self.works.remove(work)
        self.conclude(work, failed=failed)
        if not self.works:
            self.stop()

    def start(self) -> None:
        """Begin to call ``tick`` regularly."""
        self._ticker = _Ticker(self.tick)

    def stop(self) -> None:
        """Stop calling ``tick``."""
        if self._ticker is not None:
            self._ticker.stop()
            self._ticker = None

    @abstractmethod
    def say(self, message: str) -> None:
        """Show one line of text."""

    @abstractmethod
    def show(self, work: Work) -> None:
        """Show a piece of work that begins."""

    @abstractmethod
    def tick(self) -> None:
        """Bring up to date what is shown."""

    @abstractmethod
    def conclude(self, work: Work, *, failed: bool) -> None:
        """Show a piece of work that has ended."""


class LogScreen(Screen):
    """Plain lines: within 3 s what is being done, and then at least one every 10 s. Short work is not mentioned.

    Silence counts across pieces of work, but not between calls, when nothing is being done.
    """

    def __init__(self, console: Console, clock: Clock) -> None:
        super().__init__(clock)
        self._console = console
        self._spoke = self._idle_since = clock()
        self._mentioned: Work | None = None

    def say(self, message: str) -> None:
        """Show one line of text."""
        self._spoke = self.clock()
        self._console.print(message, markup=False, emoji=False, soft_wrap=True)

    def start(self) -> None:
        """Begin to keep what is shown up to date."""
        self._spoke += self.clock() - self._idle_since
        super().start()

    def show(self, work: Work) -> None:
        """Wait whether it takes long enough to be mentioned."""

    def tick(self) -> None:
        """Bring up to date what is shown."""
        if not (works := self.works[-1:]):
            return
        is_new = works[0] is not self._mentioned
        if self.clock() - self._spoke >= (FIRST_LINE_SECONDS if is_new else LINE_SECONDS):
            self._mentioned = works[0]
            self.say(f"{works[0].name}: {works[0].describe()}")

    def conclude(self, work: Work, *, failed: bool) -> None:
        """Show a piece of work that has ended."""
        if work.forecast is not None and not failed:
            self.say(f"{work.name}: {work.describe(is_over=True)}")
        self._idle_since = self.clock()


class TerminalScreen(Screen):
    """Bars with a spinner. Work of unknown amount disappears when it has ended."""

    def __init__(self, console: Console, clock: Clock) -> None:
        super().__init__(clock)
        self._console = console
        self._live: rich_progress.Progress | None = None
        self._rows: dict[Work, rich_progress.TaskID] = {}

    def say(self, message: str) -> None:
        """Show one line of text."""
        self._console.print(message, markup=False, emoji=False, soft_wrap=True)

    def start(self) -> None:
        """Begin to keep what is shown up to date."""
        self._bars().start()  # it has a thread of its own

    def stop(self) -> None:
        """Stop keeping what is shown up to date."""
        self._bars().stop()
        self._live = None

    def show(self, work: Work) -> None:
        """Show a piece of work that begins."""
        bars = self._bars()
        for outer in self.works:
            bars.update(self._rows[outer], visible=False)
        self._rows[work] = bars.add_task(work.name, total=None, work=work)

    def tick(self) -> None:
        """Leave it to the thread of the bars, which read the work themselves."""

    def conclude(self, work: Work, *, failed: bool) -> None:
        """Show a piece of work that has ended."""
        bars, row = self._bars(), self._rows.pop(work)
        if work.forecast is None:
            bars.remove_task(row)
        elif failed:
            bars.update(row, facts=work.describe())
        else:
            bars.update(row, facts=work.describe(is_over=True), total=1, completed=1)
        if self.works:
            bars.update(self._rows[self.works[-1]], visible=True)

    def _bars(self) -> rich_progress.Progress:
        if self._live is None:
            columns = (
                rich_progress.SpinnerColumn(finished_text=" "),
                rich_progress.TextColumn("{task.description}", markup=False),
                _ShareColumn(bar_width=20),
                _FactsColumn(),
            )
            # results go to standard output, which may be a file; they are printed when no bar is shown
            self._live = rich_progress.Progress(*columns, console=self._console, redirect_stdout=False)
        return self._live


class _ShareColumn(rich_progress.BarColumn):
    """A bar of the share of the time that has passed."""

    def render(self, task: rich_progress.Task) -> Any:
        """Return what the column shows."""
        if "facts" not in task.fields and (share := task.fields["work"].share()) is not None:
            task.total, task.completed = 1.0, min(share, 0.999)
        return super().render(task)


class _FactsColumn(rich_progress.ProgressColumn):
    """What is done, for how long it has run, and how long it will take."""

    def render(self, task: rich_progress.Task) -> Text:
        """Return what the column shows."""
        facts = task.fields["facts"] if "facts" in task.fields else task.fields["work"].describe()
        return Text(facts, overflow="ellipsis", no_wrap=True)


class NotebookScreen(Screen):
    """The output of a notebook cell, as text; a bar is one line that is rewritten."""

    def __init__(self, display: Callable[[], Any], clock: Clock) -> None:
        super().__init__(clock)
        self._display = display
        self._handles: dict[Work, Any] = {}
        self._free: list[Any] = []  # lines of work of unknown amount that has ended
        self._shown = clock()

    def say(self, message: str) -> None:
        """Show one line of text."""
        self._display().display(_plain(message), raw=True)

    def show(self, work: Work) -> None:
        """Show a piece of work that begins."""
        if self._free:
            self._handles[work] = self._free.pop()
            self._rewrite(work)
        else:
            self._handles[work] = self._display().display(_plain(_notebook_line(work)), raw=True, display_id=True)

    def tick(self) -> None:
        """Bring up to date what is shown."""
        if self.works and self.clock() - self._shown >= _UPDATE_SECONDS:
            self._rewrite(self.works[-1])

    def conclude(self, work: Work, *, failed: bool) -> None:
        """Show a piece of work that has ended."""
        self._rewrite(work, is_over=True)
        handle = self._handles.pop(work)
        if work.forecast is None:
            self._free.append(handle)

    def stop(self) -> None:
        """Stop keeping what is shown up to date."""
        super().stop()
        self._free.clear()

    def _rewrite(self, work: Work, *, is_over: bool = False) -> None:
        self._shown = self.clock()
        if handle := self._handles.get(work):  # the thread may be late
            handle.update(_plain(_notebook_line(work, is_over=is_over)), raw=True)


def _plain(text: str) -> dict[str, str]:
    return {"text/plain": text}


def _notebook_line(work: Work, *, is_over: bool = False) -> str:
    facts, forecast = work.describe(is_over=is_over), work.forecast
    if forecast is None:
        return f"{work.name}: {facts}"
    share = forecast.done / max(1, forecast.total) if is_over else work.share() or 0.0
    filled = round(_WIDTH * min(1.0, share))
    return f"{work.name} {chr(0x2588) * filled}{chr(0x2591) * (_WIDTH - filled)} {facts}"


class _Ticker:
    """Calls a function a few times per second, from a thread."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="progress")
        self._thread.start()

    def _run(self) -> None:
        while not self._is_over.wait(BEAT_SECONDS):
            self._function()

    def stop(self) -> None:
        """Stop, after the present call has returned."""
        self._is_over.set()
        self._thread.join()
