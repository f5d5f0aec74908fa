import math
import warnings
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import kendalltau, pearsonr, spearmanr

from repsim.similarity import COMPARATORS, compare_rdms, pairwise, rdm
from repsim.similarity.distances import Distance
from repsim.similarity.measures.cka import linear_cka
from repsim.similarity.measures.rsa import rsa
from repsim.similarity.rdm import compute_rdm
from tests.repsim.similarity.synthetic import related

module = import_module("repsim.similarity.measures.rsa")


@pytest.mark.parametrize("distance", ["correlation", "cosine", "euclidean", "sqeuclidean"])
@pytest.mark.parametrize(
    ("comparator", "twin"), [("pearson", pearsonr), ("spearman", spearmanr), ("tau-b", kendalltau)]
)
def test_rsa_equals_scipy(rng: np.random.Generator, distance: str, comparator: str, twin: Callable) -> None:
    X, Y = related(rng)
    expected = twin(pdist(X, distance), pdist(Y, distance)).statistic
    assert rsa(X, Y, distance=distance, comparator=comparator) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_rsa_is_the_comparison_of_two_rdms(rng: np.random.Generator, comparator: str) -> None:
    X, Y = related(rng, n=12)
    for distance in ("correlation", "sqeuclidean"):
        expected = compare_rdms(rdm(X, distance), rdm(Y, distance), comparator)
        assert rsa(X, Y, distance=distance, comparator=comparator) == pytest.approx(expected, abs=1e-12)


def test_rsa_equals_rsatoolbox(rng: np.random.Generator, rsatoolbox: ModuleType) -> None:
    X, Y = related(rng)
    rdms = [rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(Z), method="correlation") for Z in (X, Y)]
    assert rsa(X, Y) == pytest.approx(rsatoolbox.rdm.compare(*rdms, method="corr").item(), abs=1e-12)


def test_whitened_rsa_of_squared_distances_is_biased_cka(rng: np.random.Generator) -> None:
    X, Y = related(rng)
    value = rsa(X, Y, distance="sqeuclidean", comparator="cosine_whitened")
    assert value == pytest.approx(linear_cka(X, Y, unbiased=False), abs=1e-12)


def test_golden_rsa() -> None:
    # Distances of 0, 1, 3: 1 3 2; of 0, 3, 2: 3 2 1. Deviations -1 1 0 and 1 0 -1: -1 of a possible 2.
    X, Y = np.array([[0], [1], [3]]), np.array([[0], [3], [2]])
    assert rsa(X, Y, distance="euclidean") == pytest.approx(-0.5)
    # Squared 1 9 4 and 9 4 1: the same in ranks.
    assert rsa(X, Y, distance="sqeuclidean", comparator="spearman") == pytest.approx(-0.5)
    # Deviations -11/3 13/3 -2/3 and 13/3 -2/3 -11/3, times 3: -143 - 26 + 22 = -147 of 121 + 169 + 4 = 294.
    assert rsa(X, Y, distance="sqeuclidean") == pytest.approx(-0.5)


def test_rsa_by_correlation_ignores_the_mean_of_a_stimulus_but_not_of_a_feature(rng: np.random.Generator) -> None:
    X, Y = related(rng)
    assert rsa(X + rng.normal(size=(30, 1)), Y) == pytest.approx(rsa(X, Y), abs=1e-12)
    assert abs(rsa(X + rng.normal(size=6), Y) - rsa(X, Y)) > 1e-3


def test_rsa_by_ranks_ignores_a_monotone_map_of_the_distances(rng: np.random.Generator) -> None:
    X, Y = related(rng)
    one, other = (rsa(X, Y, distance=distance, comparator="spearman") for distance in ("euclidean", "sqeuclidean"))
    assert one == pytest.approx(other, abs=1e-12)


@pytest.mark.parametrize("comparator", ["pearson", "spearman", "tau-a"])
@pytest.mark.parametrize("bad", ["pattern", "constant", "equal"])
def test_rsa_of_equal_distances_is_nan_with_one_warning(rng: np.random.Generator, bad: str, comparator: str) -> None:
    X, Y = related(rng)
    if bad == "pattern":
        Y[3] = 0.1
    else:
        Y = np.full((30, 4), 0.1) if bad == "constant" else np.eye(30)
    message = r"^1 of 2 representations \(Y\) are constant, or their distances are all equal or not all defined\. "
    with pytest.warns(RuntimeWarning, match=message) as caught:
        assert math.isnan(rsa(X, Y, comparator=comparator))
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_rsa_of_undefined_distances_of_scipy_is_nan_with_one_warning(rng: np.random.Generator) -> None:
    X, Y = rng.uniform(size=(2, 10, 4))
    Y[[3, 5]] = 0
    with pytest.warns(RuntimeWarning, match=r"^1 of 2 representations \(Y\) are constant, or their") as caught:
        assert math.isnan(rsa(X, Y, distance="braycurtis"))
    assert len(caught) == 1


def test_rsa_leaves_the_filters_of_warnings_to_other_threads(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, Y = related(rng)
    before, inside = warnings.filters, []

    def recorded(*arguments: Any) -> Any:
        inside.append(warnings.filters)
        return compute_rdm(*arguments)

    monkeypatch.setattr(module, "compute_rdm", recorded)
    rsa(X, Y)
    assert len(inside) == 2
    assert all(filters is before for filters in inside)


def test_rsa_of_all_pairs_makes_each_rdm_once(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    X, Y = related(rng)
    made = []

    def counted(X: np.ndarray, distance: Distance, label: str) -> Any:
        made.append(label)
        return compute_rdm(X, distance, label)

    monkeypatch.setattr(module, "compute_rdm", counted)
    values = pairwise({"x": X, "y": Y, "both": np.hstack([X, Y])}, measure="rsa").values
    assert len(made) == 3
    assert values[0, 1] == pytest.approx(rsa(X, Y), abs=1e-12)


# What it refuses


def test_rsa_refuses_unknown_choices(rng: np.random.Generator) -> None:
    X, Y = related(rng)
    with pytest.raises(ValueError, match=r"^Unknown distance 'far'\. Choose one of: .*correlation"):
        rsa(X, Y, distance="far")
    with pytest.raises(ValueError, match=r"^Unknown comparator 'alike'\. Choose one of: .*pearson"):
        rsa(X, Y, comparator="alike")
    with pytest.raises(ValueError, match=r"^The distance 'crossnobis' needs folds and labels, .* of: braycurtis, .*,"):
        rsa(X, Y, distance="crossnobis")


def test_rsa_refuses_two_stimuli_and_correlation_of_one_feature(rng: np.random.Generator) -> None:
    X, Y = related(rng)
    with pytest.raises(ValueError, match=r"^X has 2 stimuli; RSA needs at least 3"):
        rsa(X[:2], Y[:2])
    with pytest.raises(ValueError, match=r"^X has 1 feature; a correlation between patterns needs at least 2"):
        rsa(X[:, :1], Y)
