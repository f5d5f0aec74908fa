"""Progress for people: what is being done, for how long, and how long it will take.

``reporter`` is what functions talk to, ``work`` the state of one piece of work, ``screens`` shows it on a terminal, in
a notebook and in a log, ``forecasts`` and ``measured_pace`` estimate the remaining time from measured durations.
"""

from analysis.execution.progress.forecasts import Forecast, StepForecast
from analysis.execution.progress.reporter import NotebookReporter, Reporter, Shown, reporter_of, silent, watched
from analysis.execution.progress.work import Progress, in_words

__all__ = [
    "Forecast",
    "NotebookReporter",
    "Progress",
    "Reporter",
    "Shown",
    "StepForecast",
    "in_words",
    "reporter_of",
    "silent",
    "watched",
]
