"""Networks with their weights that the user brings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from analysis.training.user_networks.model_spec import build_model
from checkpoints.storage.weights import WeightFile
from checkpoints.training_state.weight_fitting import fit_weights

__all__ = ["load_model"]


def load_model(
    spec: str,
    weights: str | Path | None = None,
    *,
    key: str | None = None,
    say: Callable[[str], None] | None = None,
) -> nn.Module:
    """Return the network that ``module:factory`` builds, with weights from a file if they are given.

    Parameters
    ----------
    spec : str
        See ``analysis.training.user_networks.model_spec.build_model``.
    weights : path, optional
        A file or folder; see ``checkpoints.read_weights``. Of tied weights it may hold one name only.
    key : str, optional
        Where the file holds the weights; by default where those are that fit the network.
    say : callable, optional
        Called with each sentence about what was chosen, renamed or left out; they do not name the file.

    Raises
    ------
    ValueError
        If the network cannot be built, or the weights cannot be read or do not fit it.
    """
    model = build_model(spec)
    if weights is None:
        if key is not None:
            raise ValueError(f"key '{key}' was given without weights; give the file that it is in.")
        return model
    for note in fit_weights(model, WeightFile.read(weights), key):
        if say is not None:
            say(note)
    return model
