"""Distances beyond plain products: noise, folds, rates, and what other packages get wrong in them."""

import warnings
from itertools import permutations
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis, pdist, squareform
from scipy.stats import poisson
from sklearn.covariance import ledoit_wolf

from repsim.similarity import DISTANCES, poisson_distance, rdm
from repsim.similarity.distances.scipy_metrics import BOOLEAN, METRICS


def repeats(rng: np.random.Generator, n: int = 6, folds: int = 3, d: int = 5) -> tuple[np.ndarray, ...]:
    """Noisy patterns of n conditions in every fold, in no order, with their labels and folds."""
    signal = rng.normal(size=(n, d))
    labels, parts = np.tile(np.arange(n), folds), np.repeat(np.arange(folds), n)
    X = signal[labels] + rng.normal(size=(n * folds, d))
    order = rng.permutation(len(X))
    return X[order], labels[order], parts[order]


# Conditions


@pytest.mark.parametrize("method", ["correlation", "euclidean", "cityblock"])
def test_rows_of_a_condition_are_averaged(rng: np.random.Generator, method: str) -> None:
    X, labels, _ = repeats(rng)
    means = np.stack([X[labels == label].mean(axis=0) for label in range(6)])
    names = np.array(["f", "e", "d", "c", "b", "a"])[labels]
    np.testing.assert_allclose(rdm(X, method, labels=labels), pdist(means, method), rtol=1e-10)
    np.testing.assert_allclose(squareform(rdm(X, method, labels=names))[::-1, ::-1], squareform(pdist(means, method)))


# Mahalanobis


@pytest.mark.parametrize("single", [False, True])
def test_mahalanobis_equals_scipy(rng: np.random.Generator, single: bool) -> None:
    X = rng.normal(size=(8, 4)) + 5
    root = rng.normal(size=(4, 9))
    noise = root @ root.T
    expected = [mahalanobis(a, b, np.linalg.inv(noise)) for k, a in enumerate(X) for b in X[k + 1 :]]
    D = rdm(X.astype(np.float32) if single else X, "mahalanobis", noise=noise)
    np.testing.assert_allclose(D, expected, rtol=1e-5 if single else 1e-10)


def test_variances_are_a_diagonal_covariance(rng: np.random.Generator) -> None:
    X, variances = rng.normal(size=(8, 4)), np.array([1e-6, 1, 4, 1e6])
    np.testing.assert_allclose(
        rdm(X, "mahalanobis", noise=variances), rdm(X, "mahalanobis", noise=np.diag(variances)), rtol=1e-10
    )


def test_noise_is_that_about_the_mean_of_each_condition(rng: np.random.Generator) -> None:
    X, labels, _ = repeats(rng)
    residuals = X - np.stack([X[labels == label].mean(axis=0) for label in labels])
    noise = ledoit_wolf(residuals, assume_centered=True)[0] * 18 / 12
    np.testing.assert_allclose(
        rdm(X, "mahalanobis", labels=labels), rdm(X, "mahalanobis", labels=labels, noise=noise), rtol=1e-10
    )


def test_mahalanobis_ignores_a_linear_map_of_patterns_and_noise_alike(rng: np.random.Generator) -> None:
    X, A = rng.normal(size=(8, 4)), rng.normal(size=(4, 4))
    before, after = rdm(X, "mahalanobis", noise=np.eye(4)), rdm(X @ A, "mahalanobis", noise=A.T @ A)
    np.testing.assert_allclose(before, after, rtol=1e-8)


# Cross-validated


def slow_crossnobis(X: np.ndarray, labels: np.ndarray, folds: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """The mean over ordered pairs of different folds, term by term."""
    n, parts = labels.max() + 1, np.unique(folds)
    D = np.zeros((n, n))
    for one, other in permutations(parts, 2):
        for i in range(n):
            for j in range(n):
                difference = [
                    X[(folds == part) & (labels == i)].mean(axis=0) - X[(folds == part) & (labels == j)].mean(axis=0)
                    for part in (one, other)
                ]
                D[i, j] += difference[0] @ precision @ difference[1]
    return squareform(D / (len(parts) * (len(parts) - 1)), checks=False)


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_crossnobis_equals_its_slow_twin(rng: np.random.Generator, folds: int) -> None:
    X, labels, parts = repeats(rng, folds=folds)
    root = rng.normal(size=(5, 9))
    noise = root @ root.T
    D = rdm(X + 100, "crossnobis", labels=labels, folds=parts, noise=noise)
    np.testing.assert_allclose(D, slow_crossnobis(X, labels, parts, np.linalg.inv(noise)), atol=1e-10)


def test_crossnobis_equals_rsatoolbox_times_its_channels(rng: np.random.Generator, rsatoolbox: ModuleType) -> None:
    X, labels, parts = repeats(rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = rsatoolbox.data.Dataset(X, obs_descriptors={"stim": labels, "run": parts})
        theirs = rsatoolbox.rdm.calc_rdm(data, method="crossnobis", descriptor="stim", cv_descriptor="run")
    D = rdm(X, "crossnobis", labels=labels, folds=parts, noise=np.ones(5))
    np.testing.assert_allclose(D, 5 * theirs.get_vectors()[0], atol=1e-10)


def test_crossnobis_of_two_folds_has_no_noise_of_a_fold_with_itself() -> None:
    # With two folds, training on the mean less the fold that is tested, and testing on that fold, is the product of
    # the two differences. A sign lost there gives the square of one difference, which is never negative.
    X, labels, parts = np.array([[1.0], [0.0], [-1.0], [0.0]]), [0, 1, 0, 1], [0, 0, 1, 1]
    assert rdm(X, "crossnobis", labels=labels, folds=parts, noise=[1.0]).tolist() == [-1.0]


def test_crossnobis_is_zero_on_average_between_equal_patterns_and_mahalanobis_is_not(rng: np.random.Generator) -> None:
    labels, parts = np.tile([0, 1], 4), np.repeat(np.arange(4), 2)
    crossed, plain = [], []
    for _ in range(400):
        X = rng.normal(size=(8, 10))
        crossed.append(rdm(X, "crossnobis", labels=labels, folds=parts, noise=np.ones(10))[0])
        plain.append(rdm(X, "mahalanobis", labels=labels, noise=np.ones(10))[0] ** 2)
    assert abs(np.mean(crossed)) < 4 * np.std(crossed) / 20
    assert np.mean(plain) == pytest.approx(5, rel=0.1)  # 2 d / folds


def test_noise_of_folds_is_that_about_the_mean_of_each_condition_in_each_fold(rng: np.random.Generator) -> None:
    X, labels, parts = (np.concatenate(both) for both in zip(repeats(rng), repeats(rng), strict=True))
    groups = 6 * parts + labels
    residuals = X - np.stack([X[groups == group].mean(axis=0) for group in groups])
    noise = ledoit_wolf(residuals, assume_centered=True)[0] * 36 / 18
    np.testing.assert_allclose(
        rdm(X, "crossnobis", labels=labels, folds=parts),
        rdm(X, "crossnobis", labels=labels, folds=parts, noise=noise),
        rtol=1e-10,
    )


# Poisson


def test_poisson_is_the_sum_of_both_divergences(rng: np.random.Generator) -> None:
    rates = rng.uniform(0.5, 4, size=(3, 2))
    counts = np.arange(80)

    def divergence(a: float, b: float) -> float:
        p, log_p, log_q = poisson.pmf(counts, a), poisson.logpmf(counts, a), poisson.logpmf(counts, b)
        return float(p @ (log_p - log_q))

    expected = [
        sum(divergence(x, y) + divergence(y, x) for x, y in zip(rates[i], rates[j], strict=True))
        for i in range(3)
        for j in range(i + 1, 3)
    ]
    np.testing.assert_allclose(rdm(rates, poisson_distance(prior=(1.0, 0.0))), expected, rtol=1e-8)


def test_poisson_equals_rsatoolbox_times_its_channels(rng: np.random.Generator, rsatoolbox: ModuleType) -> None:
    X = rng.poisson(3, size=(7, 5)).astype(float)
    theirs = rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(X), method="poisson")
    np.testing.assert_allclose(rdm(X, "poisson"), 5 * theirs.get_vectors()[0], rtol=1e-9, atol=1e-12)


def test_poisson_is_the_same_in_blocks(rng: np.random.Generator) -> None:
    X = rng.poisson(3, size=(17, 5))
    np.testing.assert_allclose(rdm(X, "poisson", memory=32 * 17 * 3), rdm(X, "poisson"), rtol=1e-12)


def test_poisson_cv_is_the_mean_over_all_folds(rng: np.random.Generator) -> None:
    # rsatoolbox 0.3 returns what the last fold alone gives (calc.py, lines 453 to 470).
    labels, parts = np.tile(np.arange(4), 3), np.repeat(np.arange(3), 4)
    X = rng.poisson(5, size=(12, 6)).astype(float)
    rates = (X + 0.1) / 1.1
    expected = np.zeros((4, 4))
    for one, other in permutations(range(3), 2):
        a, b = rates[parts == one], np.log(rates[parts == other])
        expected += np.array([[(a[i] - a[j]) @ (b[i] - b[j]) for j in range(4)] for i in range(4)]) / 6
    D = rdm(X, "poisson_cv", labels=labels, folds=parts)
    np.testing.assert_allclose(D, squareform(expected, checks=False), atol=1e-10)


# Metrics of scipy


@pytest.mark.parametrize("method", METRICS)
def test_other_metrics_are_those_of_scipy(rng: np.random.Generator, method: str) -> None:
    X = rng.integers(0, 2, size=(9, 6))
    X[:, 0] = method != "seuclidean"  # nothing is undefined: every row holds a truth, or every column varies
    X[0, 0] = 1
    np.testing.assert_array_equal(rdm(X, method), pdist(X.astype(bool) if method in BOOLEAN else X, method))


def test_an_undefined_distance_is_nan_and_counted() -> None:
    with pytest.warns(RuntimeWarning, match=r"^X: the jaccard distance of 1 of 3 pairs is not defined|braycurtis"):
        D = rdm([[0.0, 0.0], [0.0, 0.0], [1.0, 2.0]], "braycurtis")
    assert np.isnan(D).tolist() == [True, False, False]


# Single precision, blocks, and where the result goes


@pytest.mark.parametrize("method", ["correlation", "cosine", "euclidean", "sqeuclidean", "mahalanobis"])
def test_single_precision_stays_single_and_close(rng: np.random.Generator, method: str) -> None:
    X = (rng.normal(size=(60, 30)) + 2).astype(np.float32)
    noise = {"noise": np.linspace(1, 3, 30)} if method == "mahalanobis" else {}
    D, exact = rdm(X, method, **noise), rdm(X.astype(np.float64), method, **noise)
    assert D.dtype == np.float32
    np.testing.assert_allclose(D, exact, rtol=3e-6)


@pytest.mark.parametrize("method", [name for name, distance in DISTANCES.items() if distance.reads_blocks])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_file_is_read_and_written_in_blocks(
    rng: np.random.Generator, tmp_path: Path, method: str, kind: type
) -> None:
    X = rng.normal(size=(50, 7)).astype(kind)
    noise = {"noise": np.ones(7)} if method == "mahalanobis" else {}
    with h5py.File(tmp_path / "store.h5", "w") as file:
        layer = file.create_dataset("layer", data=X)
        result = file.create_dataset("rdm", shape=(50 * 49 // 2,), dtype=kind)
        assert rdm(layer, method, out=result, memory=13 * 13 * X.itemsize, **noise) is result
        np.testing.assert_allclose(result[:], rdm(X, method, **noise), rtol=1e-6 if kind is np.float32 else 1e-12)


@pytest.mark.parametrize("method", ["correlation", "cosine", "euclidean", "sqeuclidean"])
@pytest.mark.parametrize("scale", [1.0, 1e20, 1e-30])
def test_a_file_is_read_in_the_precision_it_needs(
    rng: np.random.Generator, tmp_path: Path, method: str, scale: float
) -> None:
    X = (scale * rng.normal(size=(50, 7))).astype(np.float32)
    X[:, 3] = scale * (1e3 + 1e-4 * rng.normal(size=50))  # constant up to rounding
    with h5py.File(tmp_path / "store.h5", "w") as file:
        D = rdm(file.create_dataset("layer", data=X), method, memory=13 * 13 * 8)
    assert D.dtype == (np.float32 if scale == 1 else np.float64)
    np.testing.assert_allclose(D, rdm(X, method), rtol=2e-6)


# What is refused


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1j, r"^Layer 'fc' has dtype complex128; expected real numbers\."),
        (np.inf, r"^Layer 'fc' has values that are NaN or infinite in rows \d+ to \d+\."),
    ],
)
def test_files_of_other_values_are_refused(
    rng: np.random.Generator, tmp_path: Path, value: complex, message: str
) -> None:
    X = rng.normal(size=(50, 7)) + np.zeros((), dtype=type(value))
    X[31, 2] = value
    with h5py.File(tmp_path / "store.h5", "w") as file, pytest.raises(ValueError, match=message):
        rdm(file.create_dataset("layer", data=X), name="fc")


X6 = np.arange(12.0).reshape(6, 2) ** 2
FOLDED = {"labels": [0, 1, 2, 0, 1, 2], "folds": [0, 0, 0, 1, 1, 1]}


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("crossnobis", {}, r"^method 'crossnobis' needs labels\. Pass one for each row of X\.$"),
        ("crossnobis", {"labels": FOLDED["labels"]}, r"^method 'crossnobis' needs folds"),
        ("cosine", {"folds": FOLDED["folds"]}, r"^method 'cosine' does not use folds\. Omit them, or choose cro"),
        ("cosine", {"noise": np.eye(2)}, r"^method 'cosine' does not use noise\. Omit it, or choose mahalanobis"),
        ("cosine", {"labels": [0, 1]}, r"^X has 6 rows and labels has shape \(2,\); expected shape \(6,\)\.$"),
        ("cosine", {"labels": [1] * 6}, r"^X has only one condition; expected at least 2\."),
        ("poisson_cv", FOLDED | {"folds": [1] * 6}, r"^X has only one fold; cross-validation needs at least 2\."),
        (
            "poisson_cv",
            FOLDED | {"folds": [0, 0, 0, 1, 1, 0]},
            r"^X: 1 conditions do not occur in every fold\. Leave them out, or divide the data into fewer folds\.$",
        ),
        ("crossnobis", FOLDED, r"^X has one row per condition and fold, so that its noise cannot be estimated\."),
        ("mahalanobis", {"labels": range(6)}, r"^X has one row per condition, so that its noise"),
        ("mahalanobis", {"noise": np.eye(3)}, r"^noise has shape \(3, 3\); expected \(2, 2\), or \(2,\) for variances"),
        ("mahalanobis", {"noise": [1.0, 0.0]}, r"^noise has variances that are not positive"),
        ("mahalanobis", {"noise": [[1.0, 2.0], [0.0, 1.0]]}, r"^noise is not symmetric; expected a covariance\."),
        ("mahalanobis", {"noise": [[1.0, 2.0], [2.0, 1.0]]}, r"^noise is not positive definite"),
        ("jaccard", {}, r"^X has values other than 0 and 1; jaccard compares Boolean values\."),
        ("cosine", {"out": [0.0] * 15}, r"^out is a list; expected an array, a memory map or an HDF5 dataset\.$"),
        ("cosine", {"out": np.empty(15, dtype=int)}, r"^out is of int64, which cannot hold distances; expected float"),
        ("cosine", {"out": np.empty(3)}, r"^out has shape \(3,\); 6 stimuli have \(15,\) distances\.$"),
    ],
)
def test_rdm_refuses_unsuitable_arguments(method: str, given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rdm(X6, method, **given)


@pytest.mark.parametrize(
    ("method", "given"), [("mahalanobis", {}), ("crossnobis", FOLDED | {"folds": [0, 0, 0, 1, 1, 1]})]
)
def test_noise_of_a_constant_layer_cannot_be_estimated(method: str, given: dict) -> None:
    given = {**given, "labels": [0, 0, 1, 0, 0, 1]} if given else given
    with pytest.raises(ValueError, match=r"^X does not vary within conditions, so that its noise cannot be estimated"):
        rdm(np.full((6, 2), 0.3), method, **given)


def test_poisson_refuses_negative_rates() -> None:
    with pytest.raises(ValueError, match=r"^Layer 'fc' has 1 negative values; the Poisson distance needs rates\."):
        rdm([[1.0, 2.0], [-1.0, 3.0]], "poisson", name="fc")


@pytest.mark.parametrize("prior", [(0.0, 0.1), (1.0, -0.1), (np.nan, 0.1)])
def test_poisson_refuses_a_prior(prior: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"^prior is \(.*\); expected a positive rate and a weight of at least 0\."):
        poisson_distance(prior=prior)


def test_distances_are_listed_by_name() -> None:
    assert all(DISTANCES[name].name == name for name in DISTANCES)
    assert all(distance.about.formula and distance.about.reference for distance in DISTANCES.values())
