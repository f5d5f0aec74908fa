import numpy as np
import pytest
from scipy.spatial.distance import squareform

from repsim.similarity import class_structure, rdm


@pytest.mark.parametrize("form", [np.asarray, squareform])
def test_class_structure_is_between_minus_within(rng: np.random.Generator, form: type) -> None:
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 0])
    D = squareform(rng.uniform(size=28))
    i, j = np.triu_indices(8, 1)
    within = labels[i] == labels[j]
    expected = D[i, j][~within].mean() - D[i, j][within].mean()
    assert class_structure(form(squareform(D)), labels) == pytest.approx(expected)


def test_class_structure_is_positive_for_clusters_and_zero_without(rng: np.random.Generator) -> None:
    labels = np.repeat(["cat", "dog"], 20)
    X = rng.normal(size=(40, 5)) + 5 * (labels == "cat")[:, None]
    assert class_structure(rdm(X, "euclidean"), labels) > 1
    assert class_structure(np.ones(40 * 39 // 2), labels) == 0


def test_class_structure_leaves_out_nan() -> None:
    labels = [0, 0, 0, 1, 1]
    D = squareform([1.0, 1, 4, 4, 1, 4, 4, 4, 4, 1])
    D[0, 1:] = D[1:, 0] = np.nan
    assert class_structure(D, labels) == 3


@pytest.mark.parametrize(("D", "side"), [([np.nan, 1, 1], "within"), ([1, np.nan, np.nan], "between")])
def test_class_structure_without_defined_distances_is_nan(D: list[float], side: str) -> None:
    with pytest.warns(RuntimeWarning, match=f"^All distances {side} classes are NaN; the class structure is NaN"):
        assert np.isnan(class_structure(D, [0, 0, 1]))
