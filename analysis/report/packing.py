"""Packing of numbers and texts for a page: quantisation, compression, base64."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Arrays", "pack", "pack_json", "quantise"]

_CODES = {1: "<u1", 2: "<u2"}


def pack(data: bytes) -> str:
    """Return bytes as base64 of a zlib stream, which the script of the page inflates."""
    return base64.b64encode(zlib.compress(data, 6)).decode()


def pack_json(value: Any) -> str:
    """Return a JSON-ready value, packed; no text in it can end a script element."""
    return pack(json.dumps(value, allow_nan=False, separators=(",", ":")).encode())


def quantise(values: ArrayLike, n_bytes: Literal[1, 2]) -> tuple[NDArray[Any], float, float]:
    """Return numbers as codes of one or two bytes, and the smallest and the largest number (0 if there is none).

    The code of the smallest number is 0, that of the largest the second largest code. The largest code marks numbers
    that are not finite.

    Examples
    --------
    >>> codes, low, high = quantise([0.0, 0.5, 1.0, float("nan")], 1)
    >>> codes.tolist(), low, high
    ([0, 127, 254, 255], 0.0, 1.0)
    """
    array = np.asarray(values, dtype=np.float64)
    known, missing = np.isfinite(array), 256**n_bytes - 1
    low, high = (float(array[known].min()), float(array[known].max())) if known.any() else (0.0, 0.0)
    scale = (missing - 1) / (high - low) if high > low else 0.0
    codes = np.full(array.shape, missing, dtype=_CODES[n_bytes])
    codes[known] = np.rint((array[known] - low) * scale)
    return codes, low, high


@dataclass
class Arrays:
    """Arrays for a page, each packed on its own, so that the page unpacks only those that it shows.

    ``index`` has what the page needs to read each array: bytes per number, low and high. Keys are valid HTML ids.
    """

    index: dict[str, dict[str, Any]] = field(default_factory=dict)
    packed: dict[str, str] = field(default_factory=dict)

    def add(self, key: str, values: ArrayLike, n_bytes: Literal[1, 2, 4]) -> None:
        """Add an array, quantised to one or two bytes per number, or as float32 with four bytes."""
        if n_bytes == 4:
            self.index[key], data = {"bytes": 4}, np.asarray(values, dtype="<f4").tobytes()
        else:
            codes, low, high = quantise(values, n_bytes)
            self.index[key], data = {"bytes": n_bytes, "low": low, "high": high}, codes.tobytes()
        self.packed[key] = pack(data)
