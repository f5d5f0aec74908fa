"""What all probes share: the conventions of scikit-learn, standardisation, and errors of labels."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.utils.estimator_checks import parametrize_with_checks

from probes import LogisticProbe, NeighbourProbe, RegressionProbe, RidgeProbe

X, y = load_iris(return_X_y=True)
CLASSIFIERS = [LogisticProbe(tol=1e-8), RidgeProbe(100.0), NeighbourProbe(), NeighbourProbe(metric="cosine")]
LINEAR = [LogisticProbe(tol=1e-8), RidgeProbe(), RegressionProbe()]


@parametrize_with_checks(
    [
        LogisticProbe(),
        RidgeProbe(),
        RidgeProbe(alphas=1.0, standardize=False),
        RegressionProbe(),
        NeighbourProbe(k=3),
        NeighbourProbe(k=3, metric="cosine"),
    ]
)
def test_probe_is_a_scikit_learn_estimator(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


@pytest.mark.parametrize("probe", CLASSIFIERS, ids=str)
def test_scale_and_offset_of_a_feature_matter_only_without_standardisation(probe: Any) -> None:
    stretched = X * np.array([30.0, 1.0, 0.3, 1.0]) + np.array([0.0, 5.0, 0.0, -5.0])
    scores = probe.decision_function if hasattr(probe, "decision_function") else probe.predict_proba
    for standardize, same in ((True, True), (False, False)):
        probe.set_params(standardize=standardize)
        before, after = (probe.fit(Z, y) and scores(Z) for Z in (X, stretched))
        assert np.allclose(before, after, atol=1e-3) == same
    np.testing.assert_array_equal([probe.mean_, probe.scale_], [np.zeros(4), np.ones(4)])


@pytest.mark.parametrize("probe", LINEAR, ids=str)
@pytest.mark.parametrize(("n", "constant"), [(3, 0.1), (50, 0.0), (150, 1e12)])
def test_constant_feature_gets_scale_one_and_coefficient_zero(probe: Any, n: int, constant: float) -> None:
    few, labels = X[48 : 48 + n], y[48 : 48 + n]
    without = probe.fit(few, labels).coef_
    probe.fit(np.column_stack([few, np.full(len(few), constant)]), labels)
    assert (probe.scale_[-1], probe.mean_[-1]) == (1.0, constant)
    np.testing.assert_array_equal(probe.coef_[..., -1], 0.0)
    np.testing.assert_allclose(probe.coef_[..., :-1], without, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("probe", CLASSIFIERS, ids=str)
def test_half_precision_is_computed_with_in_double(probe: Any) -> None:
    large = (X * 8e3).astype(np.float16)  # a sum of a few is no number of this precision
    half, double = (probe.fit(Z, y).predict(Z) for Z in (large, large.astype(np.float64)))
    np.testing.assert_array_equal(half, double)
    assert probe.mean_.dtype == np.float64


@pytest.mark.parametrize("probe", CLASSIFIERS, ids=str)
def test_single_class_is_an_error(probe: Any) -> None:
    with pytest.raises(ValueError, match="y has one class, 7; a probe needs two or more classes"):
        probe.fit(np.eye(3), [7, 7, 7])
