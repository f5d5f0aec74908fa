"""Forecasts of the remaining time: of steps that follow one another, some of which take longer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from analysis.execution.progress.measured_pace import MeasuredPace

__all__ = ["Forecast", "StepForecast"]

_USUAL = ""


class Forecast(Protocol):
    """Work of a known amount, whose remaining time can be estimated."""

    total: int
    done: int

    def advance(self, amount: int, now: float) -> None:
        """Count more units as done at a time, in seconds."""

    def left(self, now: float) -> float | None:
        """Return about how many seconds the rest takes, or None if that is not known yet."""


class StepForecast:
    """Forecast of steps of one process, one after the other.

    Each kind of step has a measured mean. Kinds of which none has ended yet are expected to take as long as usual steps
    times the given factor.

    Parameters
    ----------
    total : int
        Number of steps.
    done : int, default 0
        Number of steps that were done earlier.
    kinds : mapping of int to str, optional
        Kind of each step, counted from 1, that is not a usual one.
    factors : mapping of str to float, optional
        How many times longer than a usual step one of a kind is expected to take.

    Examples
    --------
    >>> forecast = StepForecast(100, kinds={50: "saved", 100: "saved"}, factors={"saved": 20})
    >>> forecast.advance(0, now=0.0)  # the work begins
    >>> for second in range(1, 11):
    ...     forecast.advance(1, now=second)
    >>> round(forecast.left(now=10.0))
    128
    """

    def __init__(
        self,
        total: int,
        *,
        done: int = 0,
        kinds: Mapping[int, str] | None = None,
        factors: Mapping[str, float] | None = None,
    ) -> None:
        self.total, self.done = total, done
        self._kinds = {step: kind for step, kind in (kinds or {}).items() if done < step <= total}
        self._ahead = Counter(self._kinds.values())
        self._ahead[_USUAL] = max(0, total - done - len(self._kinds))
        self._factors = {_USUAL: 1.0, **(factors or {})}
        self._pace = MeasuredPace(in_seconds=False)
        self._is_measured = False
        self._last: float | None = None

    def advance(self, amount: int, now: float) -> None:
        """Count the next steps as done at a time, in seconds; they took equally long. The first call is the start."""
        seconds = None if self._last is None else (now - self._last) / max(1, amount)
        for _ in range(amount):
            self.done += 1
            kind = self._kinds.get(self.done, _USUAL)
            self._ahead[kind] -= 1
            if seconds is not None:
                self._is_measured = True
                self._pace.add(kind, self._factors.get(kind, 1.0), seconds)
        self._last = now

    def left(self, now: float) -> float | None:
        """Return about how many seconds the remaining steps take, or None before one has ended."""
        if self._last is None or not self._is_measured:
            return None
        ahead = [n * self._pace.seconds(kind, self._factors.get(kind, 1.0)) for kind, n in self._ahead.items() if n > 0]
        return max(0.0, sum(ahead) - (now - self._last))
