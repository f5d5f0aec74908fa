"""Stopping at a safe point: the first Ctrl-C asks, the second insists."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["Incomplete", "Interrupted", "Interruption", "TrainingInterrupted"]


class Interrupted(Exception):
    """Work was stopped on request; what is done is kept, and can be continued. The message says how."""


class Incomplete(RuntimeError):
    """Some of the work could not be done; what is done is kept. The message says what became of the rest."""


class TrainingInterrupted(Interrupted):
    """Training was stopped on request; what was learned is committed."""

    def __init__(self, path: Path, step: int, options: str = "") -> None:
        command = " ".join(filter(None, (f"repsim train {path}", options, "--resume")))
        super().__init__(f"Stopped at step {step}, which is committed. Continue with: {command}")
        self.path, self.step, self.options = path, step, options

    def __reduce__(self) -> tuple[type[TrainingInterrupted], tuple[Path, int, str]]:
        """Tell other processes how to make it again."""
        return TrainingInterrupted, (self.path, self.step, self.options)


class Interruption:
    """While entered, SIGINT and SIGTERM only set ``requested``; a second signal raises KeyboardInterrupt.

    In threads other than the main one, where Python cannot change signal handling, it does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        """Take over the signals."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        """Give them back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
