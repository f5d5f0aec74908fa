"""State of one piece of work, in words: how much is done, for how long it has run, and how long it will take."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Protocol

from analysis.execution.progress.forecasts import Forecast

__all__ = ["Clock", "Progress", "Work", "in_words", "spent"]

Clock = Callable[[], float]

_SECONDS_BETWEEN_FORECASTS = 0.5
_MOST_SHARE = 0.02  # of the time that forecasts may take
_SHORTEST_MEMORY, _MEMORY = 0.5, 0.02  # seconds, and share of the elapsed time, over which forecasts are averaged
_MOST_LAG = 1.5  # factor between the estimate that is shown and the last forecast


class Progress(Protocol):
    """Progress of work."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count more units as done, and show a short note."""


class Work:
    """A piece of work that is being done, of a known amount if it has a forecast.

    The estimate of the remaining time counts down while nothing is learnt, and moves towards each new forecast over a
    fiftieth of the elapsed time, so that it does not jump, but stays within a factor of 1.5 of it.
    """

    def __init__(self, name: str, forecast: Forecast | None = None, clock: Clock = time.monotonic) -> None:
        self.name, self.note, self.forecast = name, "", forecast
        self._clock, self._lock = clock, threading.Lock()
        self.started = clock()
        self._left: float | None = None
        self._estimated = self._followed = self._next_forecast = self.started
        if forecast is not None:
            forecast.advance(0, self.started)

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count more units as done, and show a short note."""
        with self._lock:
            if self.forecast is not None and amount:
                self.forecast.advance(amount, self._clock())
            self.note = note or self.note

    @property
    def seconds(self) -> float:
        """Seconds since the work began."""
        return self._clock() - self.started

    def left(self) -> float | None:
        """Return about how many seconds the rest takes, or None if that is not known."""
        if self.forecast is None:
            return None
        with self._lock:
            now = self._clock()
            since, self._estimated = now - self._estimated, now
            if self._left is not None:
                self._left = max(0.0, self._left - since)
            if now >= self._next_forecast:
                self._follow(self.forecast.left(now), now)
                took = self._clock() - now
                self._next_forecast = now + max(_SECONDS_BETWEEN_FORECASTS, took / _MOST_SHARE)
            return self._left

    def _follow(self, forecast: float | None, now: float) -> None:
        """Move the estimate towards a new forecast."""
        if forecast is None or self._left is None:
            self._left, self._followed = forecast, now
            return
        memory = max(_SHORTEST_MEMORY, _MEMORY * (now - self.started))
        self._left += (1 - math.exp((self._followed - now) / memory)) * (forecast - self._left)
        self._left = min(max(self._left, forecast / _MOST_LAG), forecast * _MOST_LAG)
        self._followed = now

    def share(self) -> float | None:
        """Return the share of the time that has passed, from 0 to 1, or None if it is not known."""
        left = self.left()
        return None if left is None else self.seconds / max(self.seconds + left, 1e-9)

    def describe(self, *, is_over: bool = False) -> str:
        """Return a line without the name: what is done, for how long it has run, how long it will take, and the note.

        Examples
        --------
        >>> from analysis.execution.progress.forecasts import StepForecast
        >>> times = iter([0.0, 50.0, 50.0, 50.0, 50.0, 50.0])
        >>> work = Work("train", StepForecast(4), clock=lambda: next(times))
        >>> work.advance(2, "accuracy 0.9")
        >>> work.describe()
        '2/4 in 50 s, about 50 s left, accuracy 0.9'
        """
        parts = [spent(self.seconds)]
        if self.forecast is not None:
            parts = [f"{self.forecast.done}/{self.forecast.total} in {parts[0]}"]
            if not is_over and (left := self.left()) is not None:
                parts.append(f"{in_words(left)} left")
        return ", ".join([*parts, *filter(None, [self.note])])


def in_words(seconds: float) -> str:
    """Return an estimated duration in words.

    Examples
    --------
    >>> in_words(50), in_words(100), in_words(5000)
    ('about 50 s', 'about 2 min', 'about 1.4 h')
    """
    if seconds < 60:
        return f"about {max(1.0, seconds):.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 3600 else f"about {seconds / 3600:.1f} h"


def spent(seconds: float) -> str:
    """Return a measured duration in words.

    Examples
    --------
    >>> spent(50), spent(100), spent(5000)
    ('50 s', '1 min 40 s', '1 h 23 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
