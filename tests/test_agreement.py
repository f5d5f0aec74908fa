"""Other libraries find the same numbers, to 1e-6 or better, in the activations of the demo's own networks."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import pdist
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from analysis import RecordingConfig, train_run
from analysis.training import setup
from analysis.workflows.demo import DEMO_RUNS
from checkpoints import Run
from probes import LogisticProbe, ProbeConfig, probe_layers
from repsim import compare_rdms, linear_cka, pairwise, rdm
from repsim.learning import load_dataset

EPOCHS = 2  # of the demo's many: the layers are no longer random, and it takes seconds
LAYERS = ("hidden.1", "hidden.10", "hidden.20")
RULES = {name: DEMO_RUNS[name] for name in ("backprop", "sg-middle", "sg-every-boundary")}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Wait for no second thread where the products are small."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Run]:
    """The demo's networks, data and stimuli after a few epochs."""
    folder, recording = tmp_path_factory.mktemp("demo"), RecordingConfig(steps="last", layers=LAYERS)
    settings = {name: replace(training, epochs=EPOCHS) for name, training in RULES.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "load_data", cache(load_dataset))  # it takes longer than the training
        return {name: train_run(folder / name, training, recording) for name, training in settings.items()}


@pytest.fixture(params=RULES)
def network(request: pytest.FixtureRequest, networks: Mapping[str, Run]) -> Run:
    return networks[request.param]


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest, network: Run) -> NDArray[np.float64]:
    """One layer's activations of the held-out stimuli."""
    return held_out(network, request.param)


@pytest.fixture(scope="module")
def rsatoolbox() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its imports warn of deprecations that are not ours
        return pytest.importorskip("rsatoolbox")


def held_out(network: Run, name: str, at_most: int | None = None) -> NDArray[np.float64]:
    rows = np.flatnonzero(network.stimuli.split == "test")
    if at_most is not None:
        rows = rows[:: len(rows) // at_most][:at_most]
    return network.last()[name][rows].astype(np.float64)


# Probes


@pytest.mark.parametrize(("name", "layer_name"), list(zip(RULES, LAYERS, strict=True)))
def test_probes_are_those_of_scikit_learn(networks: Mapping[str, Run], name: str, layer_name: str) -> None:
    """Probabilities agree to 1e-6 where the gap is tight; at the default gap to 3e-3, accuracies to 2e-3."""
    layers, stimuli = networks[name].last().activations, networks[name].stimuli
    X, y, train, test = layers[layer_name][:], stimuli.labels, stimuli.split == "train", stimuli.split == "test"
    X = X.astype(np.float64)
    second_order = LogisticRegression(C=0.1, solver="newton-cholesky", tol=1e-12)
    reference = make_pipeline(StandardScaler(), second_order).fit(X[train], y[train])
    expected = reference.predict_proba(X[test])
    for tol, bound in ((1e-14, 1e-6), (1e-6, 3e-3)):
        probabilities = LogisticProbe(0.1, tol=tol).fit(X[train], y[train]).predict_proba(X[test])
        np.testing.assert_allclose(probabilities, expected, rtol=0, atol=bound)
    table = probe_layers({layer_name: layers[layer_name]}, y, split=stimuli.split, config=ProbeConfig(Cs=[0.1]))
    assert table["accuracy"].item() == pytest.approx(reference.score(X[test], y[test]), abs=0.002)


# RDMs


@pytest.mark.parametrize("method", ["correlation", "cosine", "euclidean", "sqeuclidean"])
def test_rdms_are_those_of_scipy(layer: NDArray[np.float64], method: str) -> None:
    np.testing.assert_allclose(rdm(layer, method), pdist(layer, method), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", ["correlation", "euclidean"])
def test_rdms_are_those_of_rsatoolbox(layer: NDArray[np.float64], method: str, rsatoolbox: ModuleType) -> None:
    expected = rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(layer), method=method).dissimilarities[0]
    if method == "euclidean":  # there, the mean over channels of squared differences
        method, expected = "sqeuclidean", expected * layer.shape[1]
    np.testing.assert_allclose(rdm(layer, method), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_rdms_compare_as_in_scipy_and_rsatoolbox(
    networks: Mapping[str, Run], name: str, method: str, rsatoolbox: ModuleType
) -> None:
    A, B = (rdm(held_out(networks[network], name)) for network in ("backprop", "sg-middle"))
    value = compare_rdms(A, B, method)
    scipy = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}[method](A, B).statistic
    theirs = {"pearson": "corr", "spearman": "spearman"}[method]
    rdms = [rsatoolbox.rdm.RDMs(D[np.newaxis]) for D in (A, B)]
    assert value == pytest.approx(scipy, abs=1e-6)
    assert value == pytest.approx(rsatoolbox.rdm.compare(*rdms, method=theirs).item(), abs=1e-6)


@pytest.mark.parametrize("outlier", [1, 10, 100, 1000])
@pytest.mark.parametrize("distance", ["euclidean", "sqeuclidean"])
def test_rdms_with_one_stimulus_far_away_compare_as_in_scipy(
    networks: Mapping[str, Run], distance: str, outlier: float
) -> None:
    """In double precision, and in single precision as they are recorded."""
    layers = [held_out(networks[network], "hidden.10", 150) for network in ("backprop", "sg-middle")]
    layers[0][7] *= outlier
    A, B = (rdm(layer, distance) for layer in layers)
    singles = [rdm(layer.astype(np.float32), distance) for layer in layers]
    scipy = {"spearman": stats.spearmanr, "tau-b": stats.kendalltau}
    for method, function in scipy.items():
        expected = function(A, B).statistic
        assert compare_rdms(A, B, method) == pytest.approx(expected, abs=1e-6)
        assert compare_rdms(*singles, method) == pytest.approx(expected, abs=1e-3)


# CKA


def song(X: NDArray[np.float64], Y: NDArray[np.float64]) -> float:
    """HSIC by equation 5 of Song et al. (2012), term by term."""
    n, one = len(X), np.ones(len(X))
    K, L = X @ X.T, Y @ Y.T
    np.fill_diagonal(K, 0.0)
    np.fill_diagonal(L, 0.0)
    sums = (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
    return (np.sum(K * L) + sums - 2 / (n - 2) * (one @ K @ L @ one)) / (n * (n - 3))


def test_unbiased_cka_is_that_of_song(networks: Mapping[str, Run]) -> None:
    layers = {
        f"{label}: {name}": held_out(run, name) - held_out(run, name).mean(axis=0)
        for label, run in networks.items()
        for name in LAYERS
    }
    table = pairwise(layers)
    arrays = list(layers.values())
    for i, X in enumerate(arrays):
        for j, Y in enumerate(arrays[:i]):
            expected = song(X, Y) / np.sqrt(song(X, X) * song(Y, Y))
            assert table.values[i, j] == pytest.approx(expected, abs=1e-6)
    assert linear_cka(arrays[0], arrays[1]) == pytest.approx(table.values[0, 1], abs=1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_biased_cka_is_the_whitened_cosine_of_squared_distances(
    networks: Mapping[str, Run], name: str, rsatoolbox: ModuleType
) -> None:
    X, Y = (held_out(networks[network], name, at_most=100) for network in ("backprop", "sg-every-boundary"))
    rdms = [rsatoolbox.rdm.RDMs(rdm(Z, "sqeuclidean")[np.newaxis]) for Z in (X, Y)]
    expected = rsatoolbox.rdm.compare(*rdms, method="cosine_cov").item()
    assert linear_cka(X, Y, unbiased=False) == pytest.approx(expected, abs=1e-6)
