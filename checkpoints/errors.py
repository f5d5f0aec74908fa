"""Errors of readers: files that were changed or cannot be trusted, and inputs that cannot be read."""

__all__ = ["Damaged", "UnreadableInputs"]


class Damaged(ValueError):
    """A file of a run is missing, changed, incomplete, of an unknown format or unsafe; the message names it."""


class UnreadableInputs(ValueError):
    """Inputs of stimuli cannot be read, or are not those that were read when the stimuli were made."""
