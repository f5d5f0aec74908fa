"""The one error type of the store: what is on disk is not what was committed, or cannot be trusted."""

__all__ = ["Damaged"]


class Damaged(ValueError):
    """A file of a run is missing, changed, torn, of an unknown format, or refused as unsafe; the message names it."""
