"""What besides the config decides a run's numbers: versions, platform, threads."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["environment"]


def environment() -> dict[str, Any]:
    """Return versions, platform and thread count: what besides the config decides the numbers."""
    import torch  # here, as those who only read a run do without it

    packages = ("repsim-sg", "torch", "numpy", "scikit-learn", "h5py", "safetensors")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "packages": {name: _version(name) for name in packages},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
