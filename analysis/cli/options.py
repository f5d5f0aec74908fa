"""What the options of commands share."""

from __future__ import annotations

from typing import Any

__all__ = ["given"]


def given(**options: Any) -> dict[str, Any]:
    """Return the options that the user gave; those left out keep the defaults of the function behind the command."""
    return {name: value for name, value in options.items() if value is not None}
