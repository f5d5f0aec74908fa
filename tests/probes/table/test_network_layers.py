from typing import Any

import numpy as np
import pytest

from probes import NetworkLayers, baselines, random_projection
from probes.table.network_layers import list_networks
from tests.probes.small_layers import Sliced

LAYERS = {"h": np.ones((3, 2))}


@pytest.mark.parametrize(
    ("known", "name"),
    [
        ({}, ""),
        ({"network": "backprop"}, "backprop"),
        ({"seed": 0}, "seed 0"),
        ({"checkpoint": 0}, "step 0"),
        ({"network": "backprop", "seed": 3, "checkpoint": 100}, "backprop, seed 3, step 100"),
        ({"network": "backprop", "checkpoint": 100}, "backprop, step 100"),
    ],
)
def test_the_name_of_a_network_holds_what_is_known(known: dict[str, Any], name: str) -> None:
    assert NetworkLayers(layers=LAYERS, **known).name == name


def test_layers_by_name_are_those_of_one_unnamed_network() -> None:
    assert list_networks(LAYERS) == [NetworkLayers(layers=LAYERS, network="", seed=None, checkpoint=None)]
    one = NetworkLayers(layers=LAYERS, network="bp")
    assert list_networks(one) == [one]


def test_networks_keep_their_order_and_may_differ_in_one_of_network_seed_and_step() -> None:
    alike = [{}, {"network": "b"}, {"network": "a"}, {"network": "a", "seed": 0}, {"network": "a", "checkpoint": 0}]
    networks = [NetworkLayers(layers=LAYERS, **each) for each in alike]
    assert list_networks(iter(networks)) == networks


@pytest.mark.parametrize("nothing", [{}, [], iter([])])
def test_no_layers_are_an_error(nothing: Any) -> None:
    message = r"layers is empty; give one or more layers, name -> array of shape \(n, d\)\."
    with pytest.raises(ValueError, match=message):
        list_networks(nothing)
    with pytest.raises(ValueError, match=message):
        NetworkLayers(layers={})


@pytest.mark.parametrize(
    ("layers", "found"),
    [([np.ones((3, 2))], "ndarray"), ([NetworkLayers(layers=LAYERS), LAYERS], "dict"), ("h", "str")],
)
def test_anything_but_networks_is_an_error(layers: Any, found: str) -> None:
    with pytest.raises(TypeError, match=f"layers has {found}; expected a mapping of arrays, or NetworkLayers"):
        list_networks(layers)


@pytest.mark.parametrize(
    ("known", "name"), [({}, "''"), ({"network": "a", "seed": 1, "checkpoint": 2}, "'a, seed 1, step 2'")]
)
def test_two_networks_of_one_name_are_an_error(known: dict[str, Any], name: str) -> None:
    networks = [NetworkLayers(layers=LAYERS, network="other"), *[NetworkLayers(layers=LAYERS, **known)] * 2]
    with pytest.raises(
        ValueError, match=f"Two networks are called {name}; give each another network, seed or checkpoint"
    ):
        list_networks(networks)


# Baselines


def test_baselines_are_the_inputs_and_a_projection_to_each_width_once() -> None:
    X = np.random.default_rng(0).normal(size=(5, 3))
    layers = {name: np.ones((5, width)) for name, width in zip("abcd", (8, 4, 8, 8), strict=True)}
    raw, projected = baselines(X, layers, seed=7)
    assert (raw.network, projected.network) == ("raw input", "random projection")
    assert raw.layers == {"input": X}
    assert list(projected.layers) == ["width 8", "width 4"]
    for width in (8, 4):
        layer = projected.layers[f"width {width}"]
        assert np.shape(layer) == (5, width)
        np.testing.assert_array_equal(np.asarray(layer), random_projection(X, width, seed=7))
    assert np.any(np.asarray(projected.layers["width 4"]) != random_projection(X, 4, seed=0))
    assert {each.seed for each in (raw, projected)} == {each.checkpoint for each in (raw, projected)} == {None}


def test_a_projection_is_computed_when_it_is_read() -> None:
    X = Sliced(np.random.default_rng(0).normal(size=(5, 3)))
    raw, projected = baselines(X, [NetworkLayers(layers={"h": np.ones((5, 4))})])
    assert raw.layers["input"] is X
    assert projected.layers["width 4"].shape == (5, 4)
    assert X.reads == []
    np.asarray(projected.layers["width 4"])
    assert X.reads == [5]


@pytest.mark.parametrize("known", [{"seed": "a"}, {"checkpoint": 0.5}])
def test_seeds_and_checkpoints_must_be_integers(known: dict[str, Any]) -> None:
    (name, value), *_ = known.items()
    with pytest.raises(TypeError, match=rf"^{name} is {value!r}; expected an integer, or None\.$"):
        NetworkLayers(layers=LAYERS, **known)


def test_baselines_need_inputs_with_two_dimensions() -> None:
    with pytest.raises(ValueError, match=r"^inputs has shape \(\); expected \(n, d\)\. Flatten it first\.$"):
        baselines(5, LAYERS)
