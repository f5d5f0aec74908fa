"""Durations of commands for typical sizes, which ``--help`` shows. This is the only place that states them.

They are rounded measurements on two cores; ``docs/scaling.md`` says how they grow.
"""

from __future__ import annotations

__all__ = ["DURATIONS", "duration_of"]

DURATIONS = {
    "analyze": "1 run x 20 layers x 1,000 stimuli, two steps: about 15 s",
    "compare": "3 runs x 20 layers x 1,000 stimuli: about 20 s; 10 runs x 8 layers x 500 stimuli: about 20 s, "
    "at 7 steps about 2 min",
    "demo": "about 6 min",
    "reproduce": "all claims at quick scale: under an hour",
    "train": "20 layers of 64 units, 40 epochs of the digits: about 15 s",
}


def duration_of(command: str) -> str | None:
    """Return the sentence at the end of the help of a command, or None if none was measured."""
    return f"Durations on 2 cores: {DURATIONS[command]}." if command in DURATIONS else None
