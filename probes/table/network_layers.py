"""Layers of a network at a checkpoint, and the baselines that are compared with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from probes.controls import BASELINES

EMPTY = "layers is empty; give one or more layers, name -> array of shape (n, d)."


@dataclass(frozen=True, kw_only=True)
class NetworkLayers:
    """The layers of one network at one checkpoint.

    Attributes
    ----------
    layers : mapping of str to array-like, shape (n, d)
        Activations by layer name, in their order. Layers may be lazy: only `shape` is used before they are probed.
    network : str
        The name of the network: its method, or its run.
    seed : int or None
        The seed of the network. Networks that are compared as a pair have the same seed.
    checkpoint : int or None
        The step at which the layers were recorded.

    Raises
    ------
    ValueError
        If there are no layers, or one is not of shape (n, d).
    TypeError
        If seed or checkpoint is not an integer.
    """

    layers: Mapping[str, ArrayLike]
    network: str = ""
    seed: int | None = None
    checkpoint: int | None = None

    def __post_init__(self) -> None:
        """Check the shapes of the layers and the types of seed and checkpoint."""
        for name in ("seed", "checkpoint"):
            if not isinstance(getattr(self, name), Integral | None):
                raise TypeError(f"{name} is {getattr(self, name)!r}; expected an integer, or None.")
        if not self.layers:
            raise ValueError(EMPTY)
        for name, layer in self.layers.items():
            shape = tuple(np.shape(layer))
            if len(shape) != 2 or shape[1] == 0:
                raise ValueError(f"{self.describe(name)} has shape {shape}; expected (n, d). Pool or flatten it first.")

    @property
    def name(self) -> str:
        """Network, seed and checkpoint, as far as they are given, for messages."""
        known = [self.network] if self.network else []
        known += [f"seed {self.seed}"] if self.seed is not None else []
        return ", ".join([*known, f"step {self.checkpoint}"] if self.checkpoint is not None else known)

    def describe(self, layer: str) -> str:
        """Return the name of a layer for messages."""
        return f"Layer {layer!r} of {self.name}" if self.name else f"Layer {layer!r}"

    def widths(self) -> dict[str, int]:
        """Return the number of features of each layer."""
        return {name: int(np.shape(layer)[1]) for name, layer in self.layers.items()}


class FitKey(NamedTuple):
    """Network, layer and target of a fit, whatever the checkpoint."""

    network: str
    seed: int | None
    layer: str
    target: str


Layers = Mapping[str, ArrayLike] | NetworkLayers | Iterable[NetworkLayers]


def list_networks(layers: Layers) -> list[NetworkLayers]:
    """Return the networks as a list; a mapping of layers is one network without a name.

    Examples
    --------
    >>> [each.network for each in list_networks({"fc1": np.ones((3, 2))})]
    ['']
    """
    if isinstance(layers, Mapping | NetworkLayers):
        networks = [layers if isinstance(layers, NetworkLayers) else NetworkLayers(layers=layers)]
    else:
        networks = list(layers)
    for each in networks:
        if not isinstance(each, NetworkLayers):
            raise TypeError(f"layers has {type(each).__name__}; expected a mapping of arrays, or NetworkLayers.")
    if not networks:
        raise ValueError(EMPTY)
    seen = set[tuple[Any, ...]]()
    for each in networks:
        key = (each.network, each.seed, each.checkpoint)
        if key in seen:
            raise ValueError(f"Two networks are called {each.name!r}; give each another network, seed or checkpoint.")
        seen.add(key)
    return networks


def baselines(inputs: ArrayLike, layers: Layers, *, seed: int = 0) -> list[NetworkLayers]:
    """Return baselines for the probes of layers: the inputs, and random projections of them to the same widths.

    Probe them with the networks: ``probe_layers([*networks, *baselines(inputs, networks)], ...)``. An untrained
    network is a `NetworkLayers` like any other.

    Parameters
    ----------
    inputs : array-like, shape (n, d)
        The inputs of the networks, flattened, in the order of the layers' rows (which is not checked).
    layers : mapping of str to array-like, shape (n, width), or sequence of NetworkLayers
        The layers that are compared with the baselines. There is one projection for each different width.
    seed : int, >= 0
        Seed of the projections.

    Returns
    -------
    list of NetworkLayers
        One for each of `BASELINES`. Projections are computed when they are read.

    Raises
    ------
    ValueError
        If inputs are not two-dimensional, or a layer is not.

    Examples
    --------
    >>> for each in baselines(np.ones((3, 2)), {"fc1": np.ones((3, 8)), "fc2": np.ones((3, 4))}):
    ...     print(each.network, *((name, layer.shape) for name, layer in each.layers.items()))
    raw input ('input', (3, 2))
    random projection ('width 8', (3, 8)) ('width 4', (3, 4))
    """
    source = inputs if hasattr(inputs, "shape") else np.asarray(inputs)
    if len(source.shape) != 2:
        raise ValueError(f"inputs has shape {tuple(source.shape)}; expected (n, d). Flatten it first.")
    widths = list(dict.fromkeys(width for each in list_networks(layers) for width in each.widths().values()))
    return [
        NetworkLayers(network=name, layers=layers_of(source, widths, seed=seed))
        for name, layers_of in BASELINES.items()
    ]
