"""Interruption at a safe point: the first Ctrl-C asks to stop, the second stops at once."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["Incomplete", "Interrupted", "Interruption", "TrainingInterrupted"]


class Interrupted(Exception):
    """Work was stopped on request. Results so far are kept, and the message says how to continue."""


class Incomplete(RuntimeError):
    """Some tasks failed. All other results are kept, and the message says what failed."""


class TrainingInterrupted(Interrupted):
    """Training was stopped on request, and its last step is committed."""

    def __init__(self, path: Path, step: int, options: str = "") -> None:
        command = " ".join(filter(None, (f"repsim train {path}", options, "--resume")))
        super().__init__(f"Stopped at step {step}, which is committed. Continue with: {command}")
        self.path, self.step, self.options = path, step, options

    def __reduce__(self) -> tuple[type[TrainingInterrupted], tuple[Path, int, str]]:
        """Return the class and its arguments, so that another process can rebuild the error."""
        return TrainingInterrupted, (self.path, self.step, self.options)


class Interruption:
    """While entered, SIGINT and SIGTERM only set ``requested``; a second signal raises KeyboardInterrupt.

    In threads other than the main one, where Python cannot change signal handling, it does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        """Handle the signals."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the earlier handlers."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
