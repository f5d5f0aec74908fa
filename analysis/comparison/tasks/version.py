"""Version of what the tasks of an analysis compute."""

__all__ = ["VERSION"]

VERSION = 4  # raised when a task computes something else, so that earlier results and analyses become stale
