"""Layers of a network at a checkpoint, and the baselines that are compared with them."""

from __future__ import annotations

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
        Activations by layer name, in their order. Layers may be lazy: only `shape` is used before they are probed.
    network : str
        The name of the network: its method, or its run.
    seed : int or None
        The seed of the network. Networks that are compared as a pair have the same seed.
    checkpoint : int or None
        The step at which the layers were recorded.
    """

    layers: Mapping[str, ArrayLike]
    network: str = ""
    seed: int | None = None
    checkpoint: int | None = None

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


def list_networks(layers: Mapping[str, ArrayLike] | NetworkLayers | Iterable[NetworkLayers]) -> list[NetworkLayers]:
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
        for name in ("seed", "checkpoint"):
            if not isinstance(getattr(each, name), Integral | None):
                raise TypeError(f"{name} is {getattr(each, name)!r}; expected an integer, or None.")
    if not networks or not all(each.layers for each in networks):
        raise ValueError("layers is empty; give one or more layers, name -> array of shape (n, d).")
    seen = set[tuple[Any, ...]]()
    for each in networks:
        key = (each.network, each.seed, each.checkpoint)
        if key in seen:
            raise ValueError(f"Two networks are called {each.name!r}; give each another network, seed or checkpoint.")
        seen.add(key)
    return networks


def baselines(inputs: ArrayLike, widths: Iterable[int], *, seed: int = 0) -> list[NetworkLayers]:
    """Return baselines for the probes of layers: the inputs, and random projections of them to the same widths.

    Parameters
    ----------
    inputs : array-like, shape (n, d)
        The inputs of the network, flattened.
    widths : iterable of int
        Widths of the layers. There is one projection for each different width.
    seed : int, >= 0
        Seed of the projections.

    Returns
    -------
    list of NetworkLayers
        One for each of `BASELINES`. Projections are computed when they are read.

    Raises
    ------
    ValueError
        If inputs are not two-dimensional.

    Examples
    --------
    >>> for each in baselines(np.ones((3, 2)), [8, 8, 4]):
    ...     print(each.network, *((name, layer.shape) for name, layer in each.layers.items()))
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
    """A random projection that is computed when it is read."""

    def __init__(self, inputs: Any, width: int, seed: int) -> None:
        self._inputs, self._width, self._seed = inputs, width, seed
        self.shape = (inputs.shape[0], width)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        projected = BASELINES["random projection"](self._inputs, self._width, seed=self._seed)
        return np.asarray(projected, dtype=dtype)
