"""The error of all readers: a file differs from what was committed, or cannot be trusted."""

__all__ = ["Damaged"]


class Damaged(ValueError):
    """A file of a run is missing, changed, incomplete, of an unknown format or unsafe; the message names it."""
