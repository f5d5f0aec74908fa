from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_iris

from probes.solvers import Fit, LogisticProblem, lbfgs, lbfgs_layers, lbfgs_many
from probes.solvers.lbfgs import _closed_up

CS = (0.01, 10.0, 0.3)  # the hardest in the middle, so that those around it end before


def data(relu_digits: tuple[NDArray, NDArray], n_classes: int) -> tuple[NDArray, NDArray]:
    X, y = relu_digits
    rows = np.flatnonzero(y < n_classes)[:300]
    return X[rows], y[rows]


def layers_of(X: NDArray) -> list[NDArray]:
    """Return layers of one shape that differ."""
    rng = np.random.default_rng(0)
    return [X, X @ rng.normal(size=(X.shape[1],) * 2) / 7.0, np.maximum(X, 0.0)]


def alone(X: NDArray, problem: LogisticProblem, **settings: Any) -> Fit:
    return lbfgs(X, problem.y, problem.C, sample_weight=problem.sample_weight, start=problem.start, **settings)


def assert_one_optimum(fit: Fit, other: Fit) -> None:
    """Check that two fits are as near as their certificates say."""
    assert fit.coef.shape == other.coef.shape
    assert np.linalg.norm(fit.coef - other.coef) <= np.sqrt(2.0 * fit.gap) + np.sqrt(2.0 * other.gap) + 1e-12
    assert -fit.gap <= other.objective - fit.objective <= other.gap
    assert max(fit.gap, other.gap) <= 1e-6 * fit.objective  # else this says nothing


@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize("together", ["features", "layers"])
def test_problems_searched_together_have_the_fits_of_each_alone(
    relu_digits: tuple[NDArray, NDArray], n_classes: int, together: str
) -> None:
    X, y = data(relu_digits, n_classes)
    rng = np.random.default_rng(0)
    weights = (None, rng.uniform(0.5, 2.0, size=len(y)), np.where(np.arange(len(y)) % 5, 1.0, 0.0))
    problems = [
        LogisticProblem(y=labels, C=C, sample_weight=weight)
        for labels, C, weight in zip((y, y[::-1].copy(), rng.permutation(y)), CS, weights, strict=True)
    ]
    layers = [X] * 3 if together == "features" else layers_of(X)
    fits = lbfgs_many(X, problems) if together == "features" else lbfgs_layers(layers, problems)
    for layer, problem, fit in zip(layers, problems, fits, strict=True):
        other = alone(layer, problem)
        assert fit.converged
        assert fit.relative_gap <= 1e-6
        assert_one_optimum(fit, other)
        assert 0.7 * other.n_iter <= fit.n_iter <= 1.4 * other.n_iter  # its own count, not that of the slowest
    assert len({fit.n_iter for fit in fits}) == 3


@pytest.mark.parametrize("together", ["features", "layers"])
@pytest.mark.parametrize("n_classes", [2, 10])
def test_problems_that_end_early_do_not_change_the_others(
    relu_digits: tuple[NDArray, NDArray], together: str, n_classes: int
) -> None:
    X, y = data(relu_digits, n_classes)
    layers = [X] * 3 if together == "features" else layers_of(X)
    done = lbfgs(layers[0], y, 0.1)
    shifted = replace(done, intercept=done.intercept + 1.0)  # the certificate finds the best one
    hard, easy = LogisticProblem(y=y, C=1e4), LogisticProblem(y=y, C=0.01)
    for order in ([1, 0, 2], [2, 1, 0]):
        problems = [LogisticProblem(y=y, C=0.1, start=shifted), hard, easy]
        chosen, where = [problems[i] for i in order], [layers[i] for i in order]
        fits = (
            lbfgs_many(X, chosen, max_iter=25) if together == "features" else lbfgs_layers(where, chosen, max_iter=25)
        )
        found = [fits[order.index(i)] for i in range(3)]
        assert [fit.converged for fit in found] == [True, False, True]
        assert found[0].n_iter == 0
        np.testing.assert_array_equal(found[0].coef, done.coef)
        np.testing.assert_allclose(found[0].intercept, done.intercept, atol=1e-8)
        assert found[1].n_iter == 25
        optimum = lbfgs(layers[1], y, 1e4, tol=1e-8)
        assert 0.0 < found[1].objective - optimum.objective <= found[1].gap
        assert 0 < found[2].n_iter < 25
        assert_one_optimum(found[2], lbfgs(layers[2], y, 0.01))


@pytest.mark.parametrize("together", ["features", "layers"])
def test_each_search_starts_from_the_start_of_its_problem(relu_digits: tuple[NDArray, NDArray], together: str) -> None:
    X, y = data(relu_digits, 10)
    layers = [X] * 2 if together == "features" else layers_of(X)[:2]
    starts = [lbfgs(layer, y, 0.9) for layer in layers]
    of = lambda problems: lbfgs_many(X, problems) if together == "features" else lbfgs_layers(layers, problems)  # noqa: E731
    cold = of([LogisticProblem(y=y, C=1.0)] * 2)
    mixed = of([LogisticProblem(y=y, C=1.0), LogisticProblem(y=y, C=1.0, start=starts[1])])
    assert mixed[1].n_iter < 0.8 * cold[1].n_iter
    assert mixed[0].n_iter > 0.8 * cold[0].n_iter
    for one, other in zip(cold, mixed, strict=True):
        assert_one_optimum(one, other)


def test_layers_in_single_precision_are_certified_in_double(relu_digits: tuple[NDArray, NDArray]) -> None:
    X, y = data(relu_digits, 3)
    layers = [layer.astype(np.float32) for layer in layers_of(X)]
    fits = lbfgs_layers(layers, [LogisticProblem(y=y, C=1.0)] * 3, tol=1e-10)
    for layer, fit in zip(layers, fits, strict=True):
        assert fit.relative_gap <= 1e-10
        assert_one_optimum(fit, lbfgs(layer.astype(np.float64), y, 1.0))


def test_a_layer_without_information_ends_at_once_among_others(relu_digits: tuple[NDArray, NDArray]) -> None:
    X, y = data(relu_digits, 3)
    nothing, something = lbfgs_layers([np.zeros_like(X), X], [LogisticProblem(y=y, C=1.0)] * 2)
    assert (nothing.n_iter, nothing.gap, nothing.converged) == (0, 0.0, True)
    assert_one_optimum(something, lbfgs(X, y, 1.0))


def test_searches_do_not_change_the_features(relu_digits: tuple[NDArray, NDArray]) -> None:
    X, y = data(relu_digits, 3)
    layers = layers_of(X)
    before = [layer.copy() for layer in layers]
    lbfgs_layers(layers, [LogisticProblem(y=y, C=C) for C in CS])
    np.testing.assert_array_equal(layers, before)


def test_remaining_problems_fill_the_gaps_from_the_end() -> None:
    for stay in map(np.array, product([False, True], repeat=6)):
        order = _closed_up(stay)
        assert sorted(order) == np.flatnonzero(stay).tolist()
        assert all(before >= place for place, before in enumerate(order))
        assert all(order[place] == place for place in range(len(order)) if stay[place])


def test_numbers_too_large_for_single_precision_are_searched_in_double() -> None:
    X, y = load_iris(return_X_y=True)
    fit = lbfgs(1e20 * X, y, 1.0, max_iter=5)
    assert np.isfinite(fit.coef).all()


def test_read_only_features_are_accepted() -> None:
    X, y = load_iris(return_X_y=True)
    X.flags.writeable = False
    assert lbfgs(X, y, 0.1).converged
    assert lbfgs(X[::-1], y[::-1].copy(), 0.1).converged
