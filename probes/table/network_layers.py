"""Whose layers are probed: a network at a checkpoint, or what stands in for one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probes.controls import BASELINES


@dataclass(frozen=True, kw_only=True)
class NetworkLayers:
    """The layers of one network at one checkpoint.

    Attributes
    ----------
    layers : mapping of str to array-like, shape (n, d)
        Activations by layer name, in their order. Layers may be lazy: only `shape` is used until their turn comes.
    network : str
        What the network is called: its method, or its run.
    seed : int or None
        Of the network; equal for networks that are to be compared as pairs.
    checkpoint : int or None
        The step at which it was recorded.
    """

    layers: Mapping[str, ArrayLike]
    network: str = ""
    seed: int | None = None
    checkpoint: int | None = None

    @property
    def name(self) -> str:
        """Network, seed and checkpoint, as far as they are known, for messages."""
        known = [self.network] if self.network else []
        known += [f"seed {self.seed}"] if self.seed is not None else []
        return ", ".join([*known, f"step {self.checkpoint}"] if self.checkpoint is not None else known)


class FitKey(NamedTuple):
    """Whose fit it is, whatever the checkpoint."""

    network: str
    seed: int | None
    layer: str
    target: str


def list_networks(layers: Mapping[str, ArrayLike] | NetworkLayers | Iterable[NetworkLayers]) -> list[NetworkLayers]:
    """Return recordings as a list, and the layers of a single, unnamed network as one.

    Raises
    ------
    ValueError
        If there are none, one has no layers, or two have one name.
    TypeError
        If something else is among them.

    Examples
    --------
    >>> [recording.network for recording in list_networks({"fc1": np.ones((3, 2))})]
    ['']
    """
    if isinstance(layers, Mapping | NetworkLayers):
        recordings = [layers if isinstance(layers, NetworkLayers) else NetworkLayers(layers=layers)]
    else:
        recordings = list(layers)
    for recording in recordings:
        if not isinstance(recording, NetworkLayers):
            raise TypeError(f"layers has {type(recording).__name__}; expected a mapping of arrays, or Recordings.")
        for name in ("seed", "checkpoint"):
            if not isinstance(getattr(recording, name), Integral | None):
                raise TypeError(f"{name} is {getattr(recording, name)!r}; expected a whole number, or None.")
    if not recordings or not all(recording.layers for recording in recordings):
        raise ValueError("layers is empty; give one or more layers, name -> array of shape (n, d).")
    seen = set[tuple[Any, ...]]()
    for recording in recordings:
        key = (recording.network, recording.seed, recording.checkpoint)
        if key in seen:
            raise ValueError(f"Two recordings are called {recording.name!r}; give each another network, seed or step.")
        seen.add(key)
    return recordings


def baselines(inputs: ArrayLike, widths: Iterable[int], *, seed: int = 0) -> list[NetworkLayers]:
    """Return what layers are to be compared with: the inputs, and random projections of them to the same widths.

    Parameters
    ----------
    inputs : array-like, shape (n, d)
        What the network saw, flattened.
    widths : iterable of int
        Of the layers. Each is projected to once.
    seed : int, >= 0
        Of the projections.

    Returns
    -------
    list of NetworkLayers
        One for each of `BASELINES`. Projections are made when they are read.

    Examples
    --------
    >>> for recording in baselines(np.ones((3, 2)), [8, 8, 4]):
    ...     print(recording.network, *((name, layer.shape) for name, layer in recording.layers.items()))
    raw input ('input', (3, 2))
    random projection ('width 8', (3, 8)) ('width 4', (3, 4))
    """
    source = inputs if hasattr(inputs, "shape") else np.asarray(inputs)
    if len(source.shape) != 2:
        raise ValueError(f"inputs has shape {tuple(source.shape)}; expected (n, d). Flatten it first.")
    projected = {f"width {width}": _Projected(source, width, seed) for width in dict.fromkeys(widths)}
    layers: dict[str, dict[str, Any]] = {"raw input": {"input": source}, "random projection": projected}
    return [NetworkLayers(network=network, layers=layers[network]) for network in BASELINES]


class _Projected:
    """A random projection that is made when it is read."""

    def __init__(self, inputs: Any, width: int, seed: int) -> None:
        self._inputs, self._width, self._seed = inputs, width, seed
        self.shape = (inputs.shape[0], width)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        projected = BASELINES["random projection"](self._inputs, self._width, seed=self._seed)
        return np.asarray(projected, dtype=dtype)
